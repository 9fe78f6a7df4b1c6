"""What patterns of rooms look at, of the rooms that are here: who made them, and their aliases here.

Owns a cache of aliases, dropped when any alias changes: few rooms are looked at, and only where patterns ask for it.
"""

from __future__ import annotations

from typing import Final

from federation.partners import store
from federation.partners.policy import RoomFacts
from federation.partners.store import RoomRow
from homeserver.graph.entry import EventEntry, touches_state
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.matrix.ids import domain_of, is_server_name
from homeserver.rooms.entries import AliasesChanged
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database

TOMBSTONE: Final = "m.room.tombstone"
SHARE: Final = 0.1
ROOM_BYTES: Final = 400
ALIAS_BYTES: Final = 100


class RoomsHere:
    """Finds facts. A projection of the log for what they were made of."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._facts: Cache[str, RoomFacts] = memory.cache("partner_rooms", SHARE)
        self.changes = 0
        """How often what patterns look at may have become another."""

    async def facts(self, room_id: str) -> RoomFacts:
        """Of a room that may not be here: then its owner is in its id, or unknown (from version 12 on)."""
        known = self._facts.get(room_id)
        if known is not None:
            return known
        changes = self.changes
        async with self._db.read() as tx:
            rows = await store.find_rooms(tx, [room_id])
        found = facts_of(rows[0] if rows else RoomRow(room_id, None, []))
        if found.owner is not None and changes == self.changes:
            self._facts.put(room_id, found, ROOM_BYTES + ALIAS_BYTES * len(found.aliases))
        return found

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        """See `Projection.handlers`."""
        return {AliasesChanged: self._changed, EventEntry: Narrowed(self._event, touches_state)}

    def reset(self) -> None:
        """See `Projection.reset`."""
        self.changes += 1
        self._facts.clear()

    def _event(self, position: Position, entry: EventEntry) -> None:
        del position
        if entry.persisted.event.type == TOMBSTONE:  # aliases went over to the room's replacement
            self.reset()

    def _changed(self, position: Position, entry: AliasesChanged) -> None:
        del position, entry
        self.reset()


def facts_of(row: RoomRow) -> RoomFacts:
    """spec: rooms/v12: ids of rooms have no server any more; before, they have that of who has made them"""
    owner = domain_of(row.room_id)
    if not is_server_name(owner):
        owner = domain_of(row.creator or "")
    return RoomFacts(row.room_id, owner or None, row.aliases)
