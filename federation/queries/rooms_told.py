"""Rooms as other servers tell of them: read with care, since they may say anything. Pure.

spec: definitions/room_summary, op:getSpaceHierarchy (server-server)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from homeserver.directory.summaries import MAX_ALLOWED_ROOMS
from homeserver.directory.types import PublishedRoom
from homeserver.matrix import json
from homeserver.matrix.ids import RoomId, UserId, is_room_id, is_user_id
from homeserver.spaces.types import CHILD, ChildState, SpaceRoom

MAX_TEXT: Final = 64 * 1024
MAX_TIME: Final = 2**53
_TEXTS: Final = ("name", "topic", "avatar_url", "canonical_alias", "room_type")


def published_room(told: Any) -> PublishedRoom | None:
    """A room of a list; None for what is none."""
    fields = _common(told)
    return None if fields is None else PublishedRoom(**fields)


def space_room(told: Any) -> SpaceRoom | None:
    """A room of a hierarchy; None for what is none."""
    fields = _common(told)
    if fields is None:
        return None
    allowed = told.get("allowed_room_ids")
    return SpaceRoom(
        **fields,
        allowed_room_ids=[
            RoomId(each)
            for each in (allowed[:MAX_ALLOWED_ROOMS] if isinstance(allowed, list) else ())
            if isinstance(each, str) and is_room_id(each)
        ],
        encryption=_text(told.get("encryption")),
        room_version=_text(told.get("room_version")),
        children_state=list(_children(told.get("children_state"))),
    )


def _common(told: Any) -> dict[str, Any] | None:
    if not isinstance(told, Mapping):
        return None
    room_id, members = told.get("room_id"), told.get("num_joined_members")
    if not isinstance(room_id, str) or not is_room_id(room_id):
        return None
    if not isinstance(members, int) or isinstance(members, bool) or not 0 <= members < MAX_TIME:
        return None
    return {
        "room_id": RoomId(room_id),
        "num_joined_members": members,
        "world_readable": told.get("world_readable") is True,
        "guest_can_join": told.get("guest_can_join") is True,
        # Where it is not told, the room is assumed to be public. spec: definitions/room_summary
        "join_rule": _text(told.get("join_rule", "public")) or "invite",
        **{name: _text(told.get(name)) for name in _TEXTS},
    }


def _children(told: Any) -> Iterator[ChildState]:
    for each in told if isinstance(told, list) else ():
        if not isinstance(each, Mapping) or each.get("type") != CHILD:
            continue
        key, sender, content = each.get("state_key"), each.get("sender"), each.get("content")
        ts = each.get("origin_server_ts")
        if not isinstance(key, str) or not is_room_id(key) or not isinstance(content, Mapping):
            continue
        if not isinstance(sender, str) or not is_user_id(sender):
            continue
        if not isinstance(ts, int) or isinstance(ts, bool) or not 0 <= ts < MAX_TIME:
            continue
        yield ChildState(CHILD, RoomId(key), msgspec.Raw(json.dumps(content)), UserId(sender), ts)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value and len(value) <= MAX_TEXT else None
