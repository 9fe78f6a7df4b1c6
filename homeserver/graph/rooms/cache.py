"""All rooms in memory: loaded when first needed, kept current by the log, dropped when memory is short."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from homeserver.graph.entry import EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning, RoomIdentity
from homeserver.graph.refs import INTERNAL
from homeserver.graph.rooms import store
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Tail
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, ServerName
from homeserver.storage.database import Database

CACHE_ENTRIES = 1_000_000
"""State entries over all rooms in memory; about 300 bytes each."""


class Rooms:
    """A projection of the log: all rooms in memory. Loads a room once for all who ask for it, and drops those not used lately."""

    def __init__(
        self, db: Database, tail: Tail, interning: Interning, events: EventCache, server_name: ServerName
    ) -> None:
        self._db = db
        self._tail = tail
        self._interning = interning
        self._events = events
        self._server_name = server_name
        self._rooms: OrderedDict[int, Room] = OrderedDict()
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

    async def get(self, room_nid: int) -> Room:
        """The room as of `tail.position` or later."""
        room = self._rooms.get(room_nid)
        if room is not None:
            self._rooms.move_to_end(room_nid)
            return room
        return (await self.get_many([room_nid]))[room_nid]

    async def latest(self, room_nid: int) -> Room:
        """The room with everything that any process has written to it before this call."""
        await self._tail.fresh()
        return await self.get(room_nid)

    async def get_many(self, room_nids: Collection[int]) -> dict[int, Room]:
        """Rooms as of `tail.position` or later; those not in memory with a bounded number of queries."""
        missing = [nid for nid in room_nids if nid not in self._rooms and nid not in self._loading]
        if missing:
            await self._load(missing)
        for nid in room_nids:
            if nid in self._loading:
                await asyncio.shield(self._loading[nid])
        found = {nid: self._rooms[nid] for nid in room_nids if nid in self._rooms}
        if len(found) < len(set(room_nids)):  # a reset came between
            return await self.get_many(room_nids)
        return found

    # --- the projection ------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._apply}

    def reset(self) -> None:
        self._rooms.clear()
        self._events.clear()

    def _apply(self, position: Position, entry: EventEntry) -> None:
        persisted = entry.persisted
        self._events.add(persisted)
        before = self._events.get(persisted.replaced.ref.nid) if persisted.replaced is not None else None
        if before is not None and before.redaction is not None:  # after this one was built upon it
            persisted.redact_replaced(before)
        if persisted.redaction is not None:
            persisted.redaction.flags &= ~INTERNAL  # it was here first and waited; now it is shown
        target = self._events.get(entry.redacts.nid) if entry.redacts is not None else None
        if target is not None and target.redaction is None:
            target.redact(persisted)
            self._events.redacted(target)
        room = self._rooms.get(persisted.room_nid)
        if room is not None:
            room.apply(position, entry)

    def add(self, room: Room) -> None:
        """A room that is being created in this process."""
        self._rooms[room.name.nid] = room
        self._make_space()

    def forget(self, room_nid: int) -> None:
        """A creation that failed."""
        self._rooms.pop(room_nid, None)

    # --- loading -------------------------------------------------------------------------------------------------

    async def _load(self, room_nids: list[int]) -> None:
        loop = asyncio.get_running_loop()
        futures: dict[int, asyncio.Future[Room]] = {nid: loop.create_future() for nid in room_nids}
        self._loading.update(futures)
        try:
            names = await self._interning.rooms(room_nids)
            for nid, room in (await self._read([names[nid] for nid in room_nids])).items():
                self._rooms[nid] = room
                futures[nid].set_result(room)
            self._make_space()
        except BaseException as error:
            for future in futures.values():
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # nobody may be waiting
            raise
        finally:
            for nid in room_nids:
                del self._loading[nid]

    async def _read(self, names: list[RoomIdentity]) -> dict[int, Room]:
        """Rooms as of one position of the log, then brought up to where the tail has come meanwhile."""
        while True:
            async with self._db.snapshot() as tx:
                position, rooms = await store.read_rooms(tx, names, self._server_name)
            if position < self._tail.floor:
                continue  # the tail has lost what came after; read again
            for written in self._tail.since(position) if position < self._tail.position else ():
                if isinstance(written.entry, EventEntry) and written.entry.persisted.room_nid in rooms:
                    rooms[written.entry.persisted.room_nid].apply(written.position, written.entry)
            return rooms

    def _make_space(self) -> None:
        total = sum(len(room.state) for room in self._rooms.values()) if len(self._rooms) % 64 == 0 else 0
        while total > CACHE_ENTRIES and len(self._rooms) > 1:
            nid, room = next(iter(self._rooms.items()))
            if not room.idle:
                self._rooms.move_to_end(nid)
                break
            total -= len(room.state)
            del self._rooms[nid]
