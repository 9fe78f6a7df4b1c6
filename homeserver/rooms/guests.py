"""Guests leave a room that does not let guests in any more.

A reader of the log, in every process: what one has done, another finds done. It looks at all rooms with guests when it
begins and after entries were missed, so that nothing depends on who was running when access was withdrawn.

spec: client-server-api/#guest-access "the server MUST set those users' m.room.member state to leave" (GUEST-02)
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Protocol

from homeserver.events.event import Event, StateKey
from homeserver.graph.entry import EventEntry, RedactedEntry, touches_state
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.matrix.ids import UserId
from homeserver.rooms import guest_store as store
from homeserver.storage.database import Database

GUEST_ACCESS: StateKey = ("m.room.guest_access", "")
MAX_WAITING = 10_000
"""Rooms to be looked at; if there are more, all rooms with guests are."""
ROOMS_AT_ONCE = 100
GUESTS_AT_ONCE = 50
"""Guests that leave a room in one append."""
LOOK_EVERY = 600.0
"""Seconds after which rooms that wait are looked at also if nothing has come."""


class Removal(Protocol):
    """Fulfilled by membership."""

    async def end_guests(self, room: Room, guests: list[UserId]) -> None:
        """Let these guests leave, unless guests may join the room again."""
        ...


class GuestAccess:
    """A projection: rooms from which guests must be removed. Call `once` when `wake` is set, and again if it fails."""

    def __init__(self, db: Database, rooms: Rooms, events: EventCache, removal: Removal) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events
        self._removal = removal
        self._waiting: set[int] = set()
        """room_nids to look at."""
        self._everywhere = True
        """Whether all rooms with guests are to be looked at."""
        self.wake = asyncio.Event()
        """There is something to look at."""
        self.wake.set()

    # --- the projection ----------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        return {EventEntry: Narrowed(self._applied, touches_state), RedactedEntry: self._redacted}

    def reset(self) -> None:
        self._everywhere = True
        self.wake.set()

    def _applied(self, _: Position, entry: EventEntry) -> None:
        if _may_withdraw(entry):
            self._look_at(entry.persisted.room_nid)

    def _redacted(self, _: Position, entry: RedactedEntry) -> None:
        if any(target.event.key == GUEST_ACCESS for target in entry.targets):
            self._look_at(entry.room_nid)

    def _look_at(self, room_nid: int) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self._everywhere = True
        self._waiting.add(room_nid)
        self.wake.set()

    # --- the work ----------------------------------------------------------------------------------------------------

    async def once(self) -> None:
        """Look at what waits. Raises what stops it, as a database that is away; nothing is lost then."""
        if self._everywhere:
            self._everywhere = False
            try:
                await self._find_all()
            except BaseException:
                self._everywhere = True
                raise
        while self._waiting:
            some = list(islice(self._waiting, ROOMS_AT_ONCE))
            self._waiting.difference_update(some)
            try:
                await self._look(some)
            except BaseException:
                self._waiting.update(some)
                raise

    async def _find_all(self) -> None:
        above = 0
        while True:
            async with self._db.read() as tx:
                found = await store.find_guest_rooms(tx, above, ROOMS_AT_ONCE)
            if not found:
                return
            events = await self._events.load([each.guest_access for each in found if each.guest_access])
            closed = [
                each.room_nid for each in found if not lets_guests_in(_event(events, each.guest_access))
            ]
            await self._look(closed)
            above = found[-1].room_nid

    async def _look(self, room_nids: Collection[int]) -> None:
        rooms = (await self._rooms.get_many(room_nids)).values()
        events = await self._events.load([nid for room in rooms if (nid := room.state.get(GUEST_ACCESS))])
        for room in rooms:
            if not lets_guests_in(_event(events, room.state.get(GUEST_ACCESS))):
                await self._empty(room)

    async def _empty(self, room: Room) -> None:
        async with self._db.read() as tx:
            guests = await store.find_guests(tx, room.local_joined)
        for first in range(0, len(guests), GUESTS_AT_ONCE):
            await self._removal.end_guests(room, guests[first : first + GUESTS_AT_ONCE])


def _event(events: Mapping[int, PersistedEvent], nid: int | None) -> Event | None:
    persisted = events.get(nid) if nid else None
    return persisted.event if persisted else None


def lets_guests_in(event: Event | None) -> bool:
    """Whether guests may join, by the room's m.room.guest_access. Absent means forbidden."""
    return event is not None and event.content.get("guest_access") == "can_join"


def _may_withdraw(entry: EventEntry) -> bool:
    """Whether guests may be in a room who were welcome before the entry and are not any more, or who are in it again."""
    persisted = entry.persisted
    if entry.redacts is not None and entry.redacts.event.key == GUEST_ACCESS:
        return True
    if persisted.event.key == GUEST_ACCESS and not lets_guests_in(persisted.event):
        # What was not set before let nobody in, if this follows on all there is: so it is where a room is made.
        return persisted.replaced is not None or entry.prev != entry.base
    return any(
        change.key == GUEST_ACCESS or (change.local and change.membership == JOIN)
        for change in entry.by_resolution
    )
