"""Who may make and revoke webhooks in a room: whoever may change its settings, that is send state of a type nobody named."""

from __future__ import annotations

from typing import Final

from homeserver.events.auth_rules.power import can_send
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId
from homeserver.web.auth import Requester

TYPE: Final = "io.atrium.hook"
"""A type of state by which a room's power levels can say who may; nothing of it is ever sent."""


class HookRights:
    """Looks at rooms."""

    def __init__(self, rooms: Rooms, events: EventCache) -> None:
        self._rooms = rooms
        self._events = events

    async def require(self, requester: Requester, room_id: RoomId) -> None:
        """Raises `Forbidden` for who is not in the room, or has not the power level; `NotFound`, if there is no such room."""
        room = await self._rooms.known(room_id)
        if room.membership(requester.user_id) != JOIN:
            raise Forbidden("You are not in this room")
        keys = [("m.room.create", ""), ("m.room.power_levels", "")]
        loaded = await self._events.load([room.state[key] for key in keys if key in room.state])
        state = {persisted.event.key: persisted.event for persisted in loaded.values() if persisted.event.key}
        if not can_send(state, requester.user_id, TYPE, room.name.version, is_state=True):
            raise Forbidden("Your power level in this room does not suffice for webhooks")
