"""What a room is, in short, for who thinks of joining it.

spec: op:getRoomSummary, op:getSpaceHierarchy (CHECKLIST SUM-01, SPACE-02, SPACE-05)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from homeserver.directory.ports import RemoteSummaries
from homeserver.directory.service import RoomDirectory
from homeserver.directory.types import RoomSummary
from homeserver.events.event import StateKey
from homeserver.events.room_version import ROOM_VERSIONS, RoomVersion
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import BAN, INVITE, JOIN, KNOCK, MEMBERSHIP_NAMES
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import RoomId, ServerName, is_room_id
from homeserver.web.auth import Requester

MAX_ALLOWED_ROOMS: Final = 50
_RULES: Final = ("m.room.join_rules", "")
_ENCRYPTION: Final = ("m.room.encryption", "")
_IN_FORCE: Final[Mapping[str, Callable[[RoomVersion], bool]]] = {
    "knock": lambda version: version.knock,
    "restricted": lambda version: version.restricted_join,
    "knock_restricted": lambda version: version.knock_restricted_join,
}
"""Join rules that not every room version knows; where it does not, nobody enters by them."""


class RoomSummaries:
    """Makes room summaries from rooms in memory. Keeps nothing itself."""

    def __init__(self, directory: RoomDirectory, rooms: Rooms, events: EventCache) -> None:
        self._directory = directory
        self._rooms = rooms
        self._events = events
        self._remote: RemoteSummaries | None = None

    def ask_with(self, remote: RemoteSummaries) -> None:
        """Who asks other servers for rooms that are not here."""
        self._remote = remote

    async def of(
        self, requester: Requester | None, room_id: RoomId, servers: Sequence[ServerName] = ()
    ) -> RoomSummary:
        """A room; one that is not here is asked for at these servers, for who is logged in. Raises `NotFound`, also for a room
        that the reader may not know of.
        """
        room = await self._rooms.by_id(room_id)
        summary = None
        # spec: SPACE-04: what is known here counts, as long as somebody of ours is there to know it
        if (room is None or not room.local_joined) and requester is not None and servers:
            summary = await self._remote.summary(room_id, servers) if self._remote is not None else None
        if summary is None and room is not None:
            [summary] = await self.describe([room])
        if summary is None:
            raise NotFound("Room not found")
        membership = room.membership(requester.user_id) if requester and room is not None else 0
        if not (
            is_open(summary)
            or membership in (JOIN, INVITE, KNOCK)
            or (requester is not None and await self._is_in_one_of(requester, summary.allowed_room_ids))
        ):
            raise NotFound("Room not found")
        if requester is not None:
            summary.membership = MEMBERSHIP_NAMES.get(membership, "leave")
        return summary

    async def describe(self, rooms: Sequence[Room]) -> list[RoomSummary]:
        """Summaries of rooms, without `membership`, whoever may see them. Few queries for all of them."""
        shown = await self._directory.describe(rooms)
        contents = await self._contents(rooms)
        return [
            RoomSummary(
                **{name: getattr(plain, name) for name in plain.__struct_fields__},
                allowed_room_ids=_allowed_rooms(rules),
                encryption=_text(encryption.get("algorithm")),
                room_version=room.name.version.id,
            )
            for room, plain, (rules, encryption) in zip(rooms, shown, contents, strict=True)
        ]

    async def _is_in_one_of(self, requester: Requester, room_ids: list[RoomId]) -> bool:
        for room_id in room_ids:
            room = await self._rooms.by_id(room_id)
            if room is not None and room.membership(requester.user_id) == JOIN:
                return True
        return False

    async def _contents(self, rooms: Sequence[Room]) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Of the join rules and of the encryption of each room; empty where there is none."""
        keys: Sequence[StateKey] = (_RULES, _ENCRYPTION)
        loaded = await self._events.load(
            {room.state[key] for room in rooms for key in keys if key in room.state}
        )

        def content(room: Room, key: StateKey) -> Mapping[str, Any]:
            persisted = loaded.get(room.state.get(key, 0))
            return persisted.event.content if persisted is not None else {}

        return [(content(room, _RULES), content(room, _ENCRYPTION)) for room in rooms]


def is_open(summary: RoomSummary) -> bool:
    """Whether anybody may join the room, knock at it, or read it."""
    return summary.world_readable or rule_in_force(summary) in ("public", "knock", "knock_restricted")


def may_enter(summary: RoomSummary, membership: int, is_in: Callable[[Collection[RoomId]], bool]) -> bool:
    """Whether a hierarchy shows the room: who reads is in it, may join it, may knock at it, or may read it.

    `membership`: the reader's (JOIN … BAN, 0); `is_in`: whether they are in one of some rooms.
    spec: op:getSpaceHierarchy (CHECKLIST SPACE-02)
    """
    if summary.world_readable or membership in (JOIN, INVITE):
        return True
    if membership == BAN:
        return False
    rule = rule_in_force(summary)
    return rule in ("public", "knock", "knock_restricted") or (
        rule == "restricted" and is_in(summary.allowed_room_ids)
    )


def rule_in_force(summary: RoomSummary) -> str:
    """The join rule as the room's version knows it: what it does not know lets nobody in."""
    rule = summary.join_rule
    version = ROOM_VERSIONS.get(summary.room_version or "")
    knows = _IN_FORCE.get(rule)
    return rule if version is None or knows is None or knows(version) else "invite"


def _allowed_rooms(rules: Mapping[str, Any]) -> list[RoomId]:
    allow = rules.get("allow")
    if rules.get("join_rule") not in ("restricted", "knock_restricted") or not isinstance(allow, list):
        return []
    listed = (
        condition.get("room_id")
        for condition in allow[:MAX_ALLOWED_ROOMS]
        if isinstance(condition, dict) and condition.get("type") == "m.room_membership"
    )
    return [RoomId(room_id) for room_id in listed if isinstance(room_id, str) and is_room_id(room_id)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
