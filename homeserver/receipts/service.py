"""Taking receipts and read markers.

spec: client-server-api/#receipts, #fully-read-markers
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from homeserver.account_data.entries import AccountDataEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.writer import LogWriter
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import EventId, RoomId
from homeserver.receipts import store
from homeserver.receipts.threads import thread_of
from homeserver.receipts.types import PRIVATE, READ, UNTHREADED, ReceiptEntry
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

FULLY_READ = "m.fully_read"
TYPES = {"m.read": READ, "m.read.private": PRIVATE}


class RoomMarkers(Protocol):
    """Where the fully-read marker is kept: account data."""

    async def placed(self, user_nid: int, room_nid: int, kind: str) -> tuple[Position, Any]: ...


class ReceiptService:
    """Takes receipts and read markers. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        log: LogWriter,
        rooms: Rooms,
        events: EventCache,
        markers: RoomMarkers,
        clock: Clock,
    ) -> None:
        self._db = db
        self._log = log
        self._rooms = rooms
        self._events = events
        self._markers = markers
        self._clock = clock
        self._locks = KeyedLocks()

    async def read(
        self,
        requester: Requester,
        room_id: RoomId,
        kind: str,
        event_id: EventId,
        thread_id: object = msgspec.UNSET,
    ) -> None:
        """Mark an event read. Raises `InvalidParam` (type, thread: EPH-03), `Forbidden`, `NotFound`."""
        room = await self._room(requester, room_id)
        if kind == FULLY_READ:
            if thread_id is not msgspec.UNSET:
                raise InvalidParam("thread_id: m.fully_read has no threads")
        elif kind not in TYPES:
            raise InvalidParam("receiptType: m.read, m.read.private or m.fully_read")
        await self._mark(requester, room, {kind: event_id}, thread_id)

    async def mark(self, requester: Requester, room_id: RoomId, markers: dict[str, EventId]) -> None:
        """Several kinds at once, all or none: type -> event. Raises as `read`."""
        await self._mark(requester, await self._room(requester, room_id), markers, msgspec.UNSET)

    async def _mark(
        self, requester: Requester, room: Room, markers: dict[str, EventId], thread_id: object
    ) -> None:
        async def once() -> None:
            found = [
                await (
                    self._fully_read(requester, room, event_id)
                    if kind == FULLY_READ
                    else self._entry(requester, room, TYPES[kind], event_id, thread_id)
                )
                for kind, event_id in markers.items()
            ]
            if entries := [entry for entry in found if entry is not None]:
                await self._log.append(*entries)

        await self._locks.changed((room.name.nid, requester.user_nid), once)

    async def _room(self, requester: Requester, room_id: RoomId) -> Room:
        room = await self._rooms.known(room_id)
        if room.membership(requester.user_id) != JOIN:
            raise Forbidden("You are not in this room")
        return room

    async def _fully_read(
        self, requester: Requester, room: Room, event_id: EventId
    ) -> AccountDataEntry | None:
        """None for a marker that goes back behind the one already there."""
        persisted = await self._in_room(room, event_id)
        room_nid = room.name.nid
        position, content = await self._markers.placed(requester.user_nid, room_nid, FULLY_READ)
        before = content.get("event_id") if isinstance(content, dict) else None
        if isinstance(before, str):
            there = await self._events.by_id(EventId(before))
            if there is not None and there.room_nid == room_nid and there.nid >= persisted.nid:
                return None
        return AccountDataEntry(
            requester.user_nid, room_nid, FULLY_READ, json.dumps({"event_id": event_id}), position
        )

    async def _in_room(self, room: Room, event_id: EventId) -> PersistedEvent:
        persisted = await self._events.by_id(event_id)
        if persisted is None or persisted.room_nid != room.name.nid:
            raise NotFound("There is no such event in this room")
        return persisted

    async def _entry(
        self, requester: Requester, room: Room, kind: int, event_id: EventId, thread_id: object
    ) -> ReceiptEntry | None:
        """None for a receipt that goes back behind one already there."""
        persisted = await self._in_room(room, event_id)
        thread = await self._thread(thread_id, event_id, persisted.event)
        async with self._db.read() as tx:
            own = await store.find_own(tx, room.name.nid, requester.user_nid)
        if any(t == kind and th == thread and nid >= persisted.nid for t, th, nid in own):
            return None
        return ReceiptEntry(
            room.name.nid,
            requester.user_nid,
            requester.user_id,
            kind,
            thread,
            persisted.nid,
            event_id,
            self._clock.now_ms(),
        )

    async def _thread(self, thread_id: object, event_id: EventId, event: Any) -> str:
        if thread_id is msgspec.UNSET:
            return UNTHREADED
        if not isinstance(thread_id, str) or not thread_id:
            raise InvalidParam("thread_id: main, or the event ID of a thread's root")
        # A root belongs to the main timeline; clients also mark it within its own thread.
        if thread_id not in (await thread_of(event, self._events), event_id):
            raise InvalidParam("thread_id: the event is not in that thread")
        return thread_id
