"""All rooms in memory: loaded when first needed, kept current by the log, dropped when memory is short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from homeserver.graph.entry import ADOPTS, BackfillEntry, EventEntry, RedactedEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.refs import INTERNAL
from homeserver.graph.rooms import store
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Tail
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, ServerName
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.runtime.turns import in_turns
from homeserver.storage.database import Database

SHARE = 8.0
ROOM_BYTES, ENTRY_BYTES = 2_000, 300
"""What a room in memory takes, and each entry of its state."""


class Rooms:
    """A projection of the log: all rooms in memory. Loads a room once for all who ask for it, and drops those not used lately."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        tail: Tail,
        interning: Interning,
        events: EventCache,
        server_name: ServerName,
        memory: MemoryBudget,
    ) -> None:
        self._db = db
        self._tail = tail
        self._interning = interning
        self._events = events
        self._server_name = server_name
        # What flies on a room must come down on it.
        self._rooms: Cache[int, Room] = memory.cache("rooms", SHARE, may_go=lambda room: room.idle)
        self._resets = 0
        self._loading: dict[int, asyncio.Future[Room]] = {}

    # --- reading -------------------------------------------------------------------------------------------------

    async def by_id(self, room_id: RoomId) -> Room | None:
        """None for a room this server does not know."""
        name = await self._interning.room(room_id)
        return await self.get(name.nid) if name else None

    async def known(self, room_id: RoomId) -> Room:
        """As `by_id`. Raises `Forbidden` for unknown rooms: what a stranger may not see does not exist."""
        room = await self.by_id(room_id)
        if room is None:
            raise Forbidden("You are not in this room")
        return room

    def cached(self, room_nid: int) -> Room | None:
        """From memory alone."""
        return self._rooms.get(room_nid)

    def cached_by_id(self, room_id: RoomId) -> Room | None:
        """From memory alone."""
        name = self._interning.known_room(room_id)
        return self._rooms.get(name.nid) if name is not None else None

    async def get(self, room_nid: int) -> Room:
        """The room as of `tail.position` or later."""
        room = self._rooms.get(room_nid)
        if room is not None:
            return room
        return (await self.get_many([room_nid]))[room_nid]

    async def latest(self, room_nid: int) -> Room:
        """The room with everything that any process has written to it before this call."""
        await self._tail.fresh()
        return await self.get(room_nid)

    async def get_many(self, room_nids: Collection[int]) -> dict[int, Room]:
        """Rooms as of `tail.position` or later; those not in memory with a bounded number of queries."""
        while True:
            resets = self._resets
            found = {nid: room for nid in room_nids if (room := self._rooms.get(nid)) is not None}
            missing = [nid for nid in dict.fromkeys(room_nids) if nid not in found]
            loading = {nid: self._loading[nid] for nid in missing if nid in self._loading}
            if len(loading) < len(missing):
                found |= await self._load([nid for nid in missing if nid not in loading])
            for nid, future in loading.items():
                found[nid] = await asyncio.shield(future)
            if resets == self._resets:  # else entries were missed
                return found

    # --- the projection ------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {
            EventEntry: self._apply,
            BackfillEntry: self._apply_older,
            RedactedEntry: self._apply_redacted,
        }

    def reset(self) -> None:
        self._resets += 1
        self._rooms.clear()
        self._events.clear()

    def _apply(self, position: Position, entry: EventEntry) -> None:
        persisted = entry.persisted
        self._events.add(persisted)
        before = self._events.get(persisted.replaced.ref.nid) if persisted.replaced is not None else None
        if before is not None and before.redaction is not None:  # after this one was built upon it
            persisted.redact_replaced(before)
        self._redact(entry)
        if entry.place == ADOPTS:  # most of what has changed stands in the database alone
            self._rooms.pop(persisted.room_nid)
            self._interning.forget_room(persisted.room_nid)
            return
        room = self._rooms.get(persisted.room_nid)
        if room is not None:
            room.apply(position, entry)
            if entry.changes:
                self._rooms.resize(room.name.nid, _size_of(room))

    def _redact(self, entry: EventEntry) -> None:
        persisted = entry.persisted
        if persisted.redaction is not None:
            persisted.redaction.flags &= ~INTERNAL  # it was here first and waited; now it is shown
        target = self._events.get(entry.redacts.nid) if entry.redacts is not None else None
        if target is not None and target.redaction is None:
            target.redact(persisted)
            self._events.redacted(target)

    def _apply_older(self, _: Position, entry: BackfillEntry) -> None:
        for _, row in entry.rows:
            self._events.add(row.persisted)
            self._redact(row)

    def _apply_redacted(self, _: Position, entry: RedactedEntry) -> None:
        for each in entry.targets:
            target = self._events.get(each.nid)
            if target is not None and target.redaction is None:
                target.redact(entry.because)
                self._events.redacted(target)

    def add(self, room: Room) -> None:
        """A room that is being created in this process."""
        self._rooms.put(room.name.nid, room, _size_of(room))

    def forget(self, room_nid: int) -> None:
        """A creation that failed."""
        self._rooms.pop(room_nid)

    # --- loading -------------------------------------------------------------------------------------------------

    async def _load(self, room_nids: list[int]) -> dict[int, Room]:
        loop = asyncio.get_running_loop()
        futures: dict[int, asyncio.Future[Room]] = {nid: loop.create_future() for nid in room_nids}
        self._loading.update(futures)
        try:
            names = await self._interning.rooms(room_nids)
            rooms = await self._read([names[nid] for nid in room_nids])
            for nid, room in rooms.items():
                self._rooms.put(nid, room, _size_of(room))
                futures[nid].set_result(room)
        except BaseException as error:
            for future in futures.values():
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # nobody may be waiting
            raise
        finally:
            for nid in room_nids:
                del self._loading[nid]
        return rooms

    async def _read(self, names: list[RoomIdentity]) -> dict[int, Room]:
        """Rooms as of one position of the log, then brought up to where the tail has come meanwhile."""
        while True:
            async with self._db.snapshot() as tx:
                position, rooms, state = await store.read_rooms(tx, names)
            async for rows in in_turns(state):  # of a large room this takes long
                store.put(rows, rooms, self._server_name)
            if position < self._tail.floor:
                continue  # the tail has lost what came after; read again
            later = [
                written
                for written in (self._tail.since(position) if position < self._tail.position else ())
                if isinstance(written.entry, EventEntry) and written.entry.persisted.room_nid in rooms
            ]
            if any(written.entry.place == ADOPTS for written in later):
                continue
            for written in later:
                rooms[written.entry.persisted.room_nid].apply(written.position, written.entry)
            return rooms


def _size_of(room: Room) -> int:
    return ROOM_BYTES + ENTRY_BYTES * len(room.state)
