"""Which cursors of a reader deliver next, and which are told of what is found."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import zip_longest

REMEMBERED = 64
"""Sets of keys of which it is remembered who is to be told."""


class Lane:
    """Cursors that are ready, and how many of such deliver at once.

    Of a group (`Reader.group`) it is first come, first served. Groups take turns, and none has more than its places: what waits for
    one that takes long is no reason for others to wait.
    """

    __slots__ = ("_at_once", "_group", "_group_at_once", "_in_group", "_queues", "_running", "_turns")

    def __init__(
        self, at_once: int, group_at_once: int = 0, group: Callable[[str], str] | None = None
    ) -> None:
        """`group_at_once`: places of a group (0: all). `group`: of a key; None: all keys are in one."""
        self._at_once = at_once
        self._group_at_once = group_at_once or at_once
        self._group = group
        self._running = 0
        self._in_group: dict[str, int] = {}
        """Deliveries under way, of groups that have any."""
        self._queues: dict[str, deque[str]] = {}
        """Keys that wait, of groups that have any."""
        self._turns: deque[str] = deque()
        """Groups that have a key waiting and a place for it, in the order of their turns."""

    def __bool__(self) -> bool:
        """Whether a key waits."""
        return bool(self._queues)

    @property
    def may_begin(self) -> bool:
        """Whether one is ready, and has a place."""
        return bool(self._turns) and self._running < self._at_once

    def waiting(self) -> Iterator[str]:
        """Keys that wait, about in the order in which they begin; not to be kept while anything begins."""
        turns = set(self._turns)
        yield from _in_turns(self._queues[group] for group in self._turns)
        yield from _in_turns(queue for group, queue in self._queues.items() if group not in turns)

    def add(self, key: str) -> None:
        """It is ready."""
        group = self._group_of(key)
        queue = self._queues.get(group)
        if queue is None:
            self._queues[group] = deque((key,))
            if self._in_group.get(group, 0) < self._group_at_once:
                self._turns.append(group)
        else:
            queue.append(key)

    def begin(self) -> str:
        """The key that begins now; only while `may_begin`. It has a place until `end`."""
        group = self._turns.popleft()
        queue = self._queues[group]
        key = queue.popleft()
        self._running += 1
        running = self._in_group[group] = self._in_group.get(group, 0) + 1
        if not queue:
            del self._queues[group]
        elif running < self._group_at_once:
            self._turns.append(group)
        return key

    def end(self, key: str) -> None:
        """What began is over."""
        group = self._group_of(key)
        self._running -= 1
        running = self._in_group[group] - 1
        if running:
            self._in_group[group] = running
        else:
            del self._in_group[group]
        if group in self._queues and running == self._group_at_once - 1:
            self._turns.append(group)

    def _group_of(self, key: str) -> str:
        return self._group(key) if self._group is not None else ""


def _in_turns(queues: Iterable[Iterable[str]]) -> Iterator[str]:
    """The first of each, the second of each, and so on."""
    for some in zip_longest(*queues):
        yield from (key for key in some if key is not None)


class BehindKeys:
    """Cursors that are not told of what is found, since they read it again anyway."""

    __slots__ = ("_keys", "_others")

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._others: dict[frozenset[str], frozenset[str]] = {}
        """What was asked lately, and the answers."""

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        """It reads again what it lacks."""
        if key not in self._keys:
            self._keys.add(key)
            self._others.clear()

    def discard(self, key: str) -> None:
        """It is to be told."""
        if key in self._keys:
            self._keys.remove(key)
            self._others.clear()

    def others(self, keys: Collection[str]) -> Collection[str]:
        """Those that are to be told. One look where the same frozen set is asked about again."""
        if not self._keys or not isinstance(keys, frozenset):
            return keys
        found = self._others.get(keys)
        if found is None:
            if len(self._others) >= REMEMBERED:
                self._others.clear()
            found = self._others[keys] = keys - self._keys
        return found
