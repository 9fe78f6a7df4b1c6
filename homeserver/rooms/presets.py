"""Presets of new rooms as data, and the power levels they begin with.

spec: client-server-api/#post_matrixclientv3createroom (ROOM-02)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from homeserver.events.room_version import RoomVersion
from homeserver.matrix.ids import UserId

Preset = Literal["private_chat", "public_chat", "trusted_private_chat"]
CREATOR_LEVEL = 100
TOMBSTONE_LEVEL_V12 = 150
"""Above `state_default`: only creators replace a version 12 room. spec: createRoom (ROOM-08)"""


@dataclass(frozen=True, slots=True)
class PresetData:
    """What a preset sets."""

    state: Mapping[str, Mapping[str, Any]]
    invite_level: int
    trust_invitees: bool = False
    """Invited users get the creator's level."""


def _rules(join_rule: str, history: str, guests: str) -> dict[str, dict[str, Any]]:
    return {
        "m.room.join_rules": {"join_rule": join_rule},
        "m.room.history_visibility": {"history_visibility": history},
        "m.room.guest_access": {"guest_access": guests},
    }


PRESETS: dict[Preset, PresetData] = {
    "private_chat": PresetData(_rules("invite", "shared", "can_join"), invite_level=0),
    "trusted_private_chat": PresetData(
        _rules("invite", "shared", "can_join"), invite_level=0, trust_invitees=True
    ),
    "public_chat": PresetData(_rules("public", "shared", "forbidden"), invite_level=50),
}

_EVENT_LEVELS = {
    "m.room.name": 50,
    "m.room.avatar": 50,
    "m.room.canonical_alias": 50,
    "m.room.power_levels": 100,
    "m.room.history_visibility": 100,
    "m.room.encryption": 100,
    "m.room.server_acl": 100,
    "m.room.tombstone": 100,
}


def power_levels(
    creator: UserId, trusted: Iterable[str], preset: PresetData, version: RoomVersion
) -> dict[str, Any]:
    """Content of the first m.room.power_levels."""
    users: dict[str, int] = {}
    events = dict(_EVENT_LEVELS)
    if version.privileged_creators:
        # Creators have infinite power and may not be listed; trusted invitees are creators then. spec: rooms/v12/
        events["m.room.tombstone"] = TOMBSTONE_LEVEL_V12
    else:
        users = {creator: CREATOR_LEVEL, **dict.fromkeys(trusted, CREATOR_LEVEL)}
    return {
        "users": users,
        "users_default": 0,
        "events": events,
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": preset.invite_level,
    }
