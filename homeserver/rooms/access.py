"""Which state of a room somebody may read: as it is, as it was when they left, or none.

spec: client-server-api/#getting-events-for-a-room (ROOM-18), #room-previews (PEEK-01)
"""

from __future__ import annotations

from typing import NamedTuple

from homeserver.events.visibility import WORLD_READABLE, history_visibility_of
from homeserver.graph.events import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.refs import BAN, JOIN, LEAVE
from homeserver.graph.room import Room
from homeserver.graph.rooms import Rooms
from homeserver.graph.states import StateStore
from homeserver.graph.visibility import HISTORY_VISIBILITY
from homeserver.log.entries import Position
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId
from homeserver.web.auth import Requester


class Access(NamedTuple):
    """What a user may read of a room."""

    room: Room
    left_at: Position | None
    """Position of the event with which they left; None: everything up to now."""


class RoomAccess:
    """One per process."""

    def __init__(self, rooms: Rooms, events: EventCache, states: StateStore, interning: Interning) -> None:
        self._interning = interning
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
            left = await self._events.one(member.event_nid)
            if left is not None and await self._was_in(requester, left.state_before.nid):
                return Access(room, member.event_nid)
        raise Forbidden("You are not in this room")

    async def state(self, access: Access) -> dict[int, int]:
        """key_nid -> event_nid of the state that may be read, for those who have left. Not for current members."""
        assert access.left_at is not None
        return await self._states.load(access.left_at)

    async def world_readable(self, room: Room) -> bool:
        """Whether anybody may read the room as it is."""
        nid = room.state.get(HISTORY_VISIBILITY)
        stored = await self._events.one(nid) if nid else None
        return history_visibility_of(stored.event if stored else None) == WORLD_READABLE

    async def _was_in(self, requester: Requester, state_before: int) -> bool:
        """Whether they were joined before they left: who was only invited has nothing to read."""
        key = ("m.room.member", requester.user_id)
        keys = await self._interning.find_key_nids([key])
        values = await self._states.values([state_before], list(keys.values()))
        nid = values[state_before].get(keys.get(key, 0))
        before = await self._events.one(nid) if nid else None
        return before is not None and before.event.membership == "join"
