"""What ephemeral sources have said and is not sent yet: in memory, one value for each key and destination.

Owned by the process that runs the sender; in others nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from federation.outbound.edus import MAX_EDU_BYTES, EduSources, EphemeralEdus, edu
from homeserver.log.entries import Written
from homeserver.matrix import canonical_json
from homeserver.runtime.clock import Clock

MAX_FOR_ONE: Final = 300
"""Values kept for one destination; the oldest go first."""
MAX_FOR_ALL: Final = 100_000
"""Values kept for all of them; those of the destination that has waited longest go first."""
MAX_UNSEEN: Final = 10_000
"""Entries that are written and not looked at yet."""

_Key = tuple[str, Hashable]


class Said(NamedTuple):
    """A value that waits, or travels."""

    source: EphemeralEdus
    key: Hashable
    value: Any


class Ephemeral:
    """Owns what waits."""

    def __init__(
        self,
        sources: EduSources,
        clock: Clock,
        *,
        runs: Callable[[], bool],
        nudge: Callable[[str, float], None],
    ) -> None:
        """`runs`: whether this process sends; `nudge`: let a destination be sent to within so many seconds."""
        self._sources = sources.ephemeral
        self._clock = clock
        self._runs = runs
        self._nudge = nudge
        self._unseen: deque[tuple[EphemeralEdus, Any]] = deque(maxlen=MAX_UNSEEN)
        self._waiting: OrderedDict[str, OrderedDict[_Key, Said]] = OrderedDict()
        self._count = 0
        self.wake = asyncio.Event()
        """There is something to `spread`."""

    def __len__(self) -> int:
        return self._count

    # --- hearing -----------------------------------------------------------------------------------------------------

    def after_batch(self, written: Sequence[Written[Any]]) -> None:
        """Entries were written by any process."""
        found = [(s, entry) for _, entry in written if (s := self._sources.get(type(entry))) is not None]
        if not found:
            return
        if not self._runs():
            self.clear()
            return
        self._unseen.extend(found)
        self.wake.set()

    async def spread(self) -> None:
        """Find out whom each entry concerns."""
        while self._unseen:
            source, entry = self._unseen.popleft()
            news = await source.news(entry)
            if news is None:
                continue
            said = Said(source, news.key, news.value)
            for server in news.servers:
                self._put(server, said)
                self._nudge(server, source.delay)

    def clear(self) -> None:
        """Another process sends."""
        self._unseen.clear()
        self._waiting.clear()
        self._count = 0

    # --- sending -----------------------------------------------------------------------------------------------------

    def take(self, destination: str, limit: int) -> tuple[list[bytes], list[Said]]:
        """EDUs with the oldest values for a destination, at most `limit`; and those values, for `give_back`."""
        waiting = self._waiting.get(destination)
        if not waiting or limit <= 0:
            return [], []
        by_source: dict[str, list[Said]] = {}
        for said in islice(waiting.values(), limit):
            by_source.setdefault(said.source.edu_type, []).append(said)
        now_ms, edus, taken = self._clock.now_ms(), list[bytes](), list[Said]()
        for edu_type, values in by_source.items():
            contents = values[0].source.contents([each.value for each in values], now_ms)
            encoded = (canonical_json.encode_strict(content) for content in contents)
            edus += [edu(edu_type, content) for content in encoded if len(content) <= MAX_EDU_BYTES]
            taken += values
        self._remove(destination, taken)
        return edus, taken

    def give_back(self, destination: str, taken: Iterable[Said]) -> bool:
        """They were not delivered: what is of worth later waits again, unless there is something newer. Whether there is any."""
        kept = [said for said in taken if said.source.keeps]
        waiting = self._waiting.get(destination) or OrderedDict[_Key, Said]()
        for said in kept:
            if (said.source.edu_type, said.key) not in waiting:
                self._put(destination, said)
        return bool(kept)

    def drop_momentary(self, destination: str) -> None:
        """The destination is away: what would be of no worth when it comes back goes."""
        waiting = self._waiting.get(destination) or OrderedDict[_Key, Said]()
        self._remove(destination, [said for said in waiting.values() if not said.source.keeps])

    def _put(self, destination: str, said: Said) -> None:
        waiting = self._waiting.setdefault(destination, OrderedDict())
        key = (said.source.edu_type, said.key)
        if key in waiting:
            # A later word takes the place of an earlier one, at the end: it may follow what was said meanwhile.
            del waiting[key]
            self._count -= 1
        waiting[key] = said
        self._count += 1
        if len(waiting) > MAX_FOR_ONE:
            waiting.popitem(last=False)
            self._count -= 1
        while self._count > MAX_FOR_ALL:
            _, gone = self._waiting.popitem(last=False)
            self._count -= len(gone)

    def _remove(self, destination: str, values: Iterable[Said]) -> None:
        waiting = self._waiting.get(destination)
        if waiting is None:
            return
        for said in values:
            if waiting.pop((said.source.edu_type, said.key), None) is not None:
                self._count -= 1
        if not waiting:
            del self._waiting[destination]
