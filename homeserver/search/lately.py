"""Whoever searches finds what was said a moment ago: a search waits for the index, where it will have more in no time.

See docs/decisions/0019-search.md: the indexer writes what comes within a quarter of a second together.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from typing import Final

from homeserver.graph.entry import EventEntry
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Position
from homeserver.log.tail import Tail
from homeserver.runtime.clock import Clock
from homeserver.runtime.fair_queue import paused
from homeserver.search import store
from homeserver.search.words import is_edit, is_searched, text_of
from homeserver.storage.database import Database

LATELY_MS: Final = 1_000
"""What is older has come into the index, or comes late for a reason that no waiting helps."""
LOOKED_AT: Final = 200
"""Entries of the log, the newest ones."""
LONGEST: Final = 0.6
"""Seconds that a search waits at most."""
STEP: Final = 0.05


class Lately:
    """Keeps nothing in memory."""

    def __init__(self, db: Database, tail: Tail, clock: Clock, longest: float = LONGEST) -> None:
        self._db = db
        self._tail = tail
        self._clock = clock
        self.longest = longest

    @property
    def end(self) -> Position:
        """Of the log."""
        return self._tail.position

    async def indexed(self, rooms: Collection[int]) -> None:
        """Returns when the newest of what was said in these rooms (room_nids) within the last second can be found, or after
        `longest` seconds. No query where nothing was said.
        """
        newest = self._newest(rooms)
        if newest is None:
            return
        end = self._clock.monotonic() + self.longest
        while not await self._is_indexed(newest) and self._clock.monotonic() < end:
            async with paused():
                await self._clock.sleep(STEP)

    def _newest(self, rooms: Collection[int]) -> int | None:
        since = self._clock.now_ms() - LATELY_MS
        first = max(self._tail.floor, self._tail.position - LOOKED_AT)
        newest: int | None = None
        for position, entry in islice(self._tail.since(first), LOOKED_AT):
            if isinstance(entry, EventEntry) and entry.persisted.room_nid in rooms:
                persisted = entry.persisted
                if persisted.event.origin_server_ts >= since and _has_words(persisted):
                    newest = position
        return newest

    async def _is_indexed(self, event_nid: int) -> bool:
        async with self._db.read() as tx:
            return await store.has_entry(tx, event_nid)


def _has_words(persisted: PersistedEvent) -> bool:
    event = persisted.event
    if persisted.hidden or persisted.redaction is not None or not is_searched(event) or is_edit(event):
        return False
    return text_of(event, None) is not None
