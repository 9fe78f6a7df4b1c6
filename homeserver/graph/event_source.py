"""Events for readers of the log (`log.readers`): as they were written, or again from their table."""

from __future__ import annotations

from homeserver.graph.entry import EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice
from homeserver.storage.tx import Tx


class EventSource:
    """Hands readers `PersistedEvent`s, those that are shown to nobody (soft-failed, rejected) too: their `flags` say so."""

    entry_type = EventEntry

    def __init__(self, events: EventCache) -> None:
        self._events = events

    def take(self, entry: EventEntry) -> PersistedEvent:
        """See `Source.take`."""
        return entry.persisted

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`. Two queries, fewer where the events are in memory."""
        nids = await tx.column(
            """
            SELECT event_nid FROM events WHERE event_nid > %(after)s AND event_nid <= %(upto)s
            ORDER BY event_nid LIMIT %(limit)s
            """,
            after=after,
            upto=upto,
            limit=limit,
        )
        loaded = await self._events.load_in(tx, nids)
        items = [Item(nid, loaded[nid]) for nid in nids if nid in loaded]
        return Slice(items, nids[-1] if len(nids) == limit else upto)
