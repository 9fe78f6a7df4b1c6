"""Which state of a room somebody may read: as it is, as it was when they left, or none.

spec: client-server-api/#getting-events-for-a-room (ROOM-18), #room-previews (PEEK-01)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.events.visibility import WORLD_READABLE, history_visibility_of
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.visibility import HISTORY_VISIBILITY
from homeserver.graph.refs import BAN, JOIN, LEAVE
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.states import StateStore
from homeserver.log.entries import Position
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId
from homeserver.rooms import store
from homeserver.rooms.memberships import Memberships
from homeserver.storage.database import Database
from homeserver.web.auth import Requester


class Access(NamedTuple):
    """What a user may read of a room."""

    room: Room
    left_at: Position | None
    """Position of the event with which they left; None: everything up to now."""
    own: int = 0
    """Of those who have left: their membership event as it is now, whatever has become of it since; 0: there is none."""


class RoomAccess:
    """Tells which state of a room a requester may read. Keeps nothing in memory."""

    def __init__(
        self, db: Database, rooms: Rooms, events: EventCache, states: StateStore, memberships: Memberships
    ) -> None:
        self._db = db
        self._memberships = memberships
        self._rooms = rooms
        self._events = events
        self._states = states

    async def of(self, requester: Requester, room_id: RoomId, *, peek: bool = True) -> Access:
        """Members, former members, and with `peek` anybody where the room is world readable. Raises `Forbidden`."""
        room = await self._rooms.known(room_id)
        member = room.members.get(requester.user_id)
        if member is not None and member.membership == JOIN:
            return Access(room, None)
        if peek and await self.world_readable(room):
            return Access(room, None)
        if member is not None and member.membership in (LEAVE, BAN):
            left_at = await self._left_at(requester, room)
            if left_at is not None:
                return Access(room, left_at, member.event_nid)
        raise Forbidden("You are not in this room")

    async def state(self, state_nid: int) -> Mapping[int, int]:
        """key_nid -> event_nid of a state."""
        return await self._states.load(state_nid)

    async def own_since(self, requester: Requester, access: Access, upto: Position) -> list[PersistedEvent]:
        """Membership events of who has left, after they left and up to `upto`, oldest first: a ban, its end. One query
        where there are any. What resolution made of their membership has no event there, and is left out.
        """
        if access.left_at is None or access.own <= access.left_at:
            return []
        async with self._db.read() as tx:
            nids = await store.find_memberships_between(
                tx, requester.user_nid, access.room.name.nid, access.left_at, upto
            )
        loaded = await self._events.load(nids)
        own: StateKey = ("m.room.member", requester.user_id)
        return [loaded[nid] for nid in nids if nid in loaded and loaded[nid].event.key == own]

    async def world_readable(self, room: Room) -> bool:
        """Whether anybody may read the room as it is."""
        nid = room.state.get(HISTORY_VISIBILITY)
        persisted = await self._events.one(nid) if nid else None
        return history_visibility_of(persisted.event if persisted else None) == WORLD_READABLE

    async def _left_at(self, requester: Requester, room: Room) -> Position | None:
        """Where they went after they were last joined, whatever has become of their membership since: a ban, an invite
        turned down. None for who was never in, or has forgotten the room (ROOM-17).
        """
        own = (await self._memberships.of(requester.user_nid)).rooms.get(room.name.nid)
        if own is not None and own.forgotten:
            return None
        async with self._db.read() as tx:
            return await store.find_departure(tx, requester.user_nid, room.name.nid)
