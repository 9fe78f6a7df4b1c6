"""Which entries of the room's state an event has to cite as its `auth_events`.

spec: server-server-api/#auth-events-selection (CHECKLIST EVT-07)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from homeserver.events.event import StateKey
from homeserver.events.room_version import RoomVersion

_CREATE: Final = ("m.room.create", "")
_POWER_LEVELS: Final = ("m.room.power_levels", "")
_JOIN_RULES: Final = ("m.room.join_rules", "")
_MEMBER: Final = "m.room.member"
_ASKS_JOIN_RULES: Final = frozenset({"join", "invite", "knock"})


def auth_keys_for(
    event_type: str, state_key: str | None, sender: str, content: Mapping[str, Any], version: RoomVersion
) -> list[StateKey]:
    """The keys, each once, whose current state events (if there are any) authorise an event like this one.

    Empty for the create event. In version 12 the create event is implied by the room id and never cited.
    """
    if event_type == "m.room.create":
        return []
    keys = [_POWER_LEVELS, (_MEMBER, sender)]
    if not version.room_id_is_create_hash:
        keys.insert(0, _CREATE)
    if event_type == _MEMBER:
        keys += _for_member(state_key, content, version)
    return list(dict.fromkeys(keys))


def _for_member(state_key: str | None, content: Mapping[str, Any], version: RoomVersion) -> list[StateKey]:
    keys: list[StateKey] = []
    if state_key is not None:
        keys.append((_MEMBER, state_key))
    membership = content.get("membership")
    if isinstance(membership, str) and membership in _ASKS_JOIN_RULES:
        keys.append(_JOIN_RULES)
    if membership == "invite":
        token = _third_party_token(content)
        if token is not None:
            keys.append(("m.room.third_party_invite", token))
    if membership == "join" and version.restricted_join:
        authoriser = content.get("join_authorised_via_users_server")
        if isinstance(authoriser, str):
            keys.append((_MEMBER, authoriser))
    return keys


def _third_party_token(content: Mapping[str, Any]) -> str | None:
    invite = content.get("third_party_invite")
    signed = invite.get("signed") if isinstance(invite, Mapping) else None
    token = signed.get("token") if isinstance(signed, Mapping) else None
    return token if isinstance(token, str) else None
