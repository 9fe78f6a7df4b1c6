"""Walking back from events along `prev_events`, with few queries: what lies before an event was mostly written before it.

spec: server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.page_size import PAGE_BYTES, weight
from homeserver.graph.read.pages import OLDEST, Pages, Wanted
from homeserver.graph.refs import OUTLIER, REJECTED, SOFT_FAILED
from homeserver.matrix.ids import EventId

NOT_TOLD: Final = REJECTED | SOFT_FAILED | OUTLIER
"""Flags of events that are walked past."""
MAX_STEPS: Final = 200
"""Rounds of a walk, each of at most three queries."""


class Ancestors:
    """Walks the graph of one room backwards. Made for one request: remembers what it has loaded."""

    def __init__(self, events: EventCache, pages: Pages, room_nid: int) -> None:
        self._events = events
        self._pages = pages
        self._room_nid = room_nid
        self._loaded: dict[EventId, PersistedEvent | None] = {}

    async def find(self, event_ids: Collection[EventId]) -> list[PersistedEvent]:
        """Those of the events that are here and of this room."""
        missing = [event_id for event_id in event_ids if event_id not in self._loaded]
        if missing:
            numbers = await self._events.numbers(missing)
            loaded = await self._events.load(numbers.values())
            self._loaded.update(dict.fromkeys(missing))
            self._add(loaded.values())
        return [found for each in event_ids if (found := self._loaded.get(each)) is not None]

    async def backwards(self, starts: Collection[EventId], limit: int) -> list[PersistedEvent]:
        """The events and what precedes them, the deepest first, at most `limit` and some megabytes. spec: op:backfillRoom"""
        waiting = {each.event.event_id: each for each in await self.find(starts)}
        await self._look_ahead(waiting.values(), limit)
        found: list[PersistedEvent] = []
        seen = set(waiting)
        left = PAGE_BYTES
        for _ in range(MAX_STEPS):
            # Of what waits, all that is deeper than what any of it follows comes next; in a room without branches that is one.
            if not waiting or len(found) >= limit or left <= 0:
                break
            deepest = max(waiting.values(), key=lambda each: (each.event.depth, each.nid))
            del waiting[deepest.event.event_id]
            if not deepest.flags & NOT_TOLD:
                found.append(deepest)
                left -= weight(deepest)
            before = [each for each in deepest.event.prev_event_ids if each not in seen]
            seen.update(before)
            waiting.update((each.event.event_id, each) for each in await self.find(before))
        return found

    async def missing(
        self,
        latest: Collection[EventId],
        earliest: Collection[EventId],
        *,
        min_depth: int,
        limit: int,
    ) -> list[PersistedEvent]:
        """What precedes `latest`, breadth first, but for `earliest` and what precedes only that. spec: op:getMissingPreviousEvents

        (CHECKLIST FED-15)
        """
        starts = await self.find(latest)
        await self._look_ahead(starts, limit)
        seen = {*latest, *earliest}
        front = [each for each in starts if each.event.event_id not in set(earliest)]
        found: list[PersistedEvent] = []
        left = PAGE_BYTES
        for _ in range(MAX_STEPS):
            before = [
                event_id
                for event_id in dict.fromkeys(e for each in front for e in each.event.prev_event_ids)
                if event_id not in seen
            ]
            if not before or len(found) >= limit or left <= 0:
                break
            seen.update(before)
            front = [each for each in await self.find(before) if each.event.depth >= min_depth]
            told = [each for each in front if not each.flags & NOT_TOLD]
            found += told
            left -= sum(map(weight, told))
        return found[:limit]

    async def _look_ahead(self, starts: Iterable[PersistedEvent], limit: int) -> None:
        """Load what was written before the newest of these: most of it is what the walk will come to."""
        newest = max((each.nid for each in starts), default=None)
        if newest is None:
            return
        nids = await self._pages.page(self._room_nid, Wanted(newest, OLDEST, True, limit + 20))
        self._add((await self._events.load(nids)).values())

    def _add(self, events: Iterable[PersistedEvent]) -> None:
        for each in events:
            if each.room_nid == self._room_nid:
                self._loaded[each.event.event_id] = each
