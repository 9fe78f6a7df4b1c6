"""Which events others relate to in a way that is bundled: remembered, since of most events it is never so.

An answer of yes may outlive its reason (a child is redacted): the bundle then turns out empty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from homeserver.graph.entry import BackfillEntry, EventEntry
from homeserver.graph.read import bundle_store as store
from homeserver.graph.relations import relation_of
from homeserver.log.entries import Entry, Position
from homeserver.log.remembered import Remembered
from homeserver.runtime.cache import MemoryBudget
from homeserver.storage.database import Database

SHARE = 0.5
EVENT_BYTES = 300
"""What an event takes in the cache."""


class Related:
    """A projection: which events are known to have, or not to have, relations that are bundled; a bounded cache."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._known: Remembered[str, bool] = Remembered(memory.cache("related", SHARE))

    async def among(self, event_ids: Collection[str]) -> set[str]:
        """Those of these events that others relate to. One query for all that are not known."""
        known = self._known.get_all(event_ids)
        found = (
            {event_id for event_id, related in known.items() if related} if True in known.values() else set()
        )
        if None in known.values():
            unknown = [event_id for event_id, related in known.items() if related is None]
            version = self._known.version
            async with self._db.read() as tx:
                read = await store.find_related(tx, unknown)
            for event_id in unknown:
                self._known.add(event_id, event_id in read, version, EVENT_BYTES)
            found |= read
        return found

    # --- the projection ------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._apply, BackfillEntry: self._apply_older}

    def reset(self) -> None:
        self._known.reset()

    def _apply_older(self, position: Position, entry: BackfillEntry) -> None:
        for _, row in entry.rows:
            self._apply(position, row)

    def _apply(self, _: Position, entry: EventEntry) -> None:
        relation = relation_of(entry.persisted.event)
        if relation is not None and relation.rel_type in store.BUNDLED:
            self._known.changed(relation.parent_id)
