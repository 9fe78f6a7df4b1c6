"""Restricted joins: whether membership elsewhere lets a user in, and which of our users vouches for it.

spec: client-server-api/#restricted-rooms (JOIN-01 to JOIN-03)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.events.auth_rules.power import can_act
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import INVITE, JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, UserId, is_room_id

MAX_ALLOWED_ROOMS = 50
_CREATE, _LEVELS = ("m.room.create", ""), ("m.room.power_levels", "")


class RestrictedJoins:
    """Answers for rooms this server is in."""

    def __init__(self, rooms: Rooms, events: EventCache) -> None:
        self._rooms = rooms
        self._events = events

    async def authoriser(self, room: Room, user_id: UserId) -> UserId | None:
        """The local user to name as `join_authorised_via_users_server`; None if the join needs none.

        Raises `Forbidden` if the user is in none of the allowed rooms and is not invited.
        """
        rules = await self._content(room, "m.room.join_rules")
        version = room.name.version
        rule = rules.get("join_rule")
        restricted = (rule == "restricted" and version.restricted_join) or (
            rule == "knock_restricted" and version.knock_restricted_join
        )
        if not restricted or room.membership(user_id) in (JOIN, INVITE):
            return None
        for room_id in _allowed_rooms(rules):
            allowed = await self._rooms.by_id(room_id)
            if allowed is not None and allowed.membership(user_id) == JOIN:
                return await self._who_may_invite(room)
        raise Forbidden("You are in none of the rooms whose members may join")

    async def _who_may_invite(self, room: Room) -> UserId:
        nids = [room.state[key] for key in (_CREATE, _LEVELS) if key in room.state]
        loaded = await self._events.load(nids)
        state = {persisted.event.key: persisted.event for persisted in loaded.values() if persisted.event.key}
        for user_id, member in room.members.items():
            if (
                member.local
                and member.membership == JOIN
                and can_act(state, user_id, "invite", room.name.version)
            ):
                return user_id
        raise Forbidden("Nobody here may let you in")

    async def _content(self, room: Room, kind: str) -> Mapping[str, Any]:
        nid = room.state.get((kind, ""))
        persisted = await self._events.one(nid) if nid else None
        return persisted.event.content if persisted else {}


def _allowed_rooms(rules: Mapping[str, Any]) -> list[RoomId]:
    allow = rules.get("allow")
    found: list[RoomId] = []
    for entry in allow[:MAX_ALLOWED_ROOMS] if isinstance(allow, list) else ():
        if isinstance(entry, dict) and entry.get("type") == "m.room_membership":
            room_id = entry.get("room_id")
            if isinstance(room_id, str) and is_room_id(room_id):
                found.append(RoomId(room_id))
    return found
