"""Restricted joins: whether membership elsewhere lets a user in, and which of our users vouches for it.

spec: client-server-api/#restricted-rooms (JOIN-01 to JOIN-03)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from homeserver.events.auth_rules.power import can_act
from homeserver.events.event import Event, StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import INVITE, JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden, UnableToAuthoriseJoin, UnableToGrantJoin
from homeserver.matrix.ids import RoomId, UserId, is_room_id

MAX_ALLOWED_ROOMS = 50
_CREATE, _LEVELS = ("m.room.create", ""), ("m.room.power_levels", "")


class Condition(enum.Enum):
    """How a user stands to what a room asks of who joins."""

    NONE = "nothing is asked"
    MET = "met"
    NOT_MET = "not met"
    UNKNOWN = "this server is not in all of the rooms that count"


class RestrictedJoins:
    """Answers for rooms this server is in."""

    def __init__(self, rooms: Rooms, events: EventCache) -> None:
        self._rooms = rooms
        self._events = events

    async def authoriser(self, room: Room, user_id: UserId) -> UserId | None:
        """The local user to name as `join_authorised_via_users_server`; None if the join needs none.

        Raises `Forbidden` if the user is in none of the allowed rooms and is not invited, `UnableToAuthoriseJoin` if that cannot
        be told here, `UnableToGrantJoin` if nobody here may let them in: other servers may know, or may.
        """
        condition = await self.condition(room, user_id)
        if condition is Condition.NONE:
            return None
        if condition is Condition.NOT_MET:
            raise Forbidden("You are in none of the rooms whose members may join")
        if condition is Condition.UNKNOWN:
            raise UnableToAuthoriseJoin("This server is not in all of the rooms whose members may join")
        voucher = await self.voucher(room)
        if voucher is None:
            raise UnableToGrantJoin("Nobody here may let you in")
        return voucher

    async def condition(self, room: Room, user_id: UserId) -> Condition:
        """Whether the user needs to be in another room to join, and is."""
        rules = await self._content(room, "m.room.join_rules")
        version = room.name.version
        rule = rules.get("join_rule")
        restricted = (rule == "restricted" and version.restricted_join) or (
            rule == "knock_restricted" and version.knock_restricted_join
        )
        if not restricted or room.membership(user_id) in (JOIN, INVITE):
            return Condition.NONE
        found = Condition.NOT_MET
        for room_id in _allowed_rooms(rules):
            allowed = await self._rooms.by_id(room_id)
            if allowed is None or allowed.away:
                found = Condition.UNKNOWN
            elif allowed.membership(user_id) == JOIN:
                return Condition.MET
        return found

    async def voucher(self, room: Room) -> UserId | None:
        """A local user who is in the room and may invite; None: there is none."""
        state = await self._levels(room)
        ours = (user for user, member in room.members.items() if member.local and member.membership == JOIN)
        return next((user for user in ours if can_act(state, user, "invite", room.name.version)), None)

    async def may_vouch(self, room: Room, user_id: UserId) -> bool:
        """Whether a local user is in the room and may invite."""
        member = room.members.get(user_id)
        if member is None or not member.local or member.membership != JOIN:
            return False
        return can_act(await self._levels(room), user_id, "invite", room.name.version)

    async def _levels(self, room: Room) -> dict[StateKey, Event]:
        loaded = await self._events.load([room.state[key] for key in (_CREATE, _LEVELS) if key in room.state])
        return {each.event.key: each.event for each in loaded.values() if each.event.key is not None}

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
