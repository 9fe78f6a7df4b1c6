"""What a process keeps in memory of what it could read again: caches that share one budget of bytes.

A cache may grow into what the others leave; when all of them together hold more than the budget, the one that is furthest
beyond its share gives up what it has not used for longest. Sizes are estimates, counted when a value is put in or `resize` is
called: a value that changes must not change what was counted for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from heapq import heapify, heappop, heapreplace
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TRIES = 16
"""Values that are looked at for one that may go."""
SPARE, MOST_SPARE = 256, 1 << 18
"""When the budget is full, the 256th part of it is freed at once, at most so many bytes: to look for the caches that are beyond
their share costs more than to forget a value."""


class MemoryBudget:
    """The bytes that all caches made from it may hold together: `limit`. Knows them all, and makes room when they are full."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        """Bytes that all of them hold."""
        self.evicted = 0
        """Values that had to go since the start."""
        self.caches: list[Cache[Any, Any]] = []

    def cache(
        self,
        name: str,
        share: float,
        *,
        may_go: Callable[[Any], bool] | None = None,
        gone: Callable[[Any, Any], None] | None = None,
    ) -> Cache[Any, Any]:
        """A new cache, called `name` in the metrics.

        `share`: its weight against the others when memory is short. `may_go`: whether a value can be given up now. `gone` is
        called with the key and value of what was.
        """
        made: Cache[Any, Any] = Cache(self, name, share, may_go, gone)
        self.caches.append(made)
        return made

    def add(self, size: int) -> None:
        """So many bytes more (or fewer) are held; whatever is too much goes. For `Cache` alone."""
        self.used += size
        if self.used > self.limit:
            self._make_room()

    def _make_room(self) -> None:
        """Each cache in turn, the one furthest beyond its share first, until it is no longer that."""
        enough = self.limit - min(self.limit // SPARE, MOST_SPARE)
        largest = [(-cache.excess, number) for number, cache in enumerate(self.caches)]
        heapify(largest)
        while largest and self.used > enough:
            cache = self.caches[largest[0][1]]
            next_excess = max((-each[0] for each in largest[1:3]), default=-1.0)
            more = True
            while more and self.used > enough and cache.excess >= next_excess:
                more = cache.give_up_one()
                self.evicted += more
            if more:
                heapreplace(largest, (-cache.excess, largest[0][1]))
            else:
                heappop(largest)


class Cache(Generic[K, V]):
    """Values by key, the least recently used first to go. Made by `MemoryBudget.cache`."""

    def __init__(
        self,
        budget: MemoryBudget,
        name: str,
        share: float,
        may_go: Callable[[V], bool] | None,
        gone: Callable[[K, V], None] | None,
    ) -> None:
        self._budget = budget
        self.name = name
        self.share = share
        self.size = 0
        """Bytes, as far as they were counted."""
        self._may_go = may_go
        self._gone = gone
        self._values: OrderedDict[K, V] = OrderedDict()
        self._sizes: dict[K, int] = {}

    @property
    def excess(self) -> float:
        """How large it is for its share."""
        return self.size / self.share

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K) -> V | None:
        """The value, which counts as used; None if it is not here."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """The values that are here, which count as used."""
        found: dict[K, V] = {}
        values = self._values
        for key in keys:
            if (value := values.get(key)) is not None:
                found[key] = value
                values.move_to_end(key)
        return found

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value of about `size` bytes, in place of the one before."""
        self._values[key] = value
        self._values.move_to_end(key)
        self.resize(key, size)

    def resize(self, key: K, size: int) -> None:
        """A value that is here takes another number of bytes."""
        if key not in self._values:
            return
        more = size - self._sizes.get(key, 0)
        self._sizes[key] = size
        self.size += more
        self._budget.add(more)

    def pop(self, key: K) -> V | None:
        """Take a value out; None if it is not here. `gone` is not called."""
        value = self._values.pop(key, None)
        if value is not None:
            size = self._sizes.pop(key)
            self.size -= size
            self._budget.add(-size)
        return value

    def clear(self) -> None:
        """Forget everything. `gone` is not called."""
        size, self.size = self.size, 0
        self._values.clear()
        self._sizes.clear()
        self._budget.add(-size)

    def give_up_one(self) -> bool:
        """Forget the value that was not used for longest. False if none may go; the newest stays: it was asked for just now.

        For `MemoryBudget` alone.
        """
        for _ in range(min(TRIES, len(self._values) - 1)):
            key, value = next(iter(self._values.items()))
            if self._may_go is not None and not self._may_go(value):
                self._values.move_to_end(key)
                continue
            size = self._sizes.pop(key)
            del self._values[key]
            self.size -= size
            self._budget.used -= size
            if self._gone is not None:
                self._gone(key, value)
            return True
        return False
