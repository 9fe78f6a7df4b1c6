"""What a room is, in short, for who thinks of joining it.

spec: op:getRoomSummary (CHECKLIST SUM-01, SPACE-05)
"""

from __future__ import annotations

from typing import Any, Final

from homeserver.directory.service import RoomDirectory
from homeserver.directory.types import RoomSummary
from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import INVITE, JOIN, KNOCK, MEMBERSHIP_NAMES
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import RoomId, is_room_id
from homeserver.web.auth import Requester

MAX_ALLOWED_ROOMS: Final = 50
_OPEN: Final = frozenset({"public", "knock", "knock_restricted"})
_RULES: Final = ("m.room.join_rules", "")
_ENCRYPTION: Final = ("m.room.encryption", "")


class RoomSummaries:
    """Makes room summaries from rooms in memory. Keeps nothing itself."""

    def __init__(self, directory: RoomDirectory, rooms: Rooms, events: EventCache) -> None:
        self._directory = directory
        self._rooms = rooms
        self._events = events

    async def of(self, requester: Requester | None, room_id: RoomId) -> RoomSummary:
        """Raises `NotFound`, also for a room that the reader may not know of."""
        room = await self._rooms.by_id(room_id)
        if room is None:
            raise NotFound("Room not found")
        shown = await self._directory.describe(room)
        allowed = await self._allowed_rooms(room)
        membership = room.membership(requester.user_id) if requester else 0
        visible = (
            shown.world_readable
            or shown.join_rule in _OPEN
            or membership in (JOIN, INVITE, KNOCK)
            or (requester is not None and await self._is_in_one_of(requester, allowed))
        )
        if not visible:
            raise NotFound("Room not found")
        algorithm = (await self._content(room, _ENCRYPTION)).get("algorithm")
        return RoomSummary(
            **{name: getattr(shown, name) for name in shown.__struct_fields__},
            allowed_room_ids=allowed,
            encryption=algorithm if isinstance(algorithm, str) else None,
            room_version=room.name.version.id,
            membership=None if requester is None else MEMBERSHIP_NAMES.get(membership, "leave"),
        )

    async def _is_in_one_of(self, requester: Requester, room_ids: list[RoomId]) -> bool:
        for room_id in room_ids:
            room = await self._rooms.by_id(room_id)
            if room is not None and room.membership(requester.user_id) == JOIN:
                return True
        return False

    async def _allowed_rooms(self, room: Room) -> list[RoomId]:
        rules = await self._content(room, _RULES)
        allow = rules.get("allow")
        if rules.get("join_rule") not in ("restricted", "knock_restricted") or not isinstance(allow, list):
            return []
        listed = (
            condition.get("room_id")
            for condition in allow[:MAX_ALLOWED_ROOMS]
            if isinstance(condition, dict) and condition.get("type") == "m.room_membership"
        )
        return [RoomId(room_id) for room_id in listed if isinstance(room_id, str) and is_room_id(room_id)]

    async def _content(self, room: Room, key: StateKey) -> dict[str, Any]:
        nid = room.state.get(key)
        persisted = await self._events.one(nid) if nid else None
        return dict(persisted.event.content) if persisted else {}
