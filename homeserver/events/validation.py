"""What this server refuses to let its own users send, though the room would accept it from others.

An event of another server is judged by the authorisation rules alone: whoever refuses more than they do
falls out of the room's agreement. spec: client-server-api/#instant-messaging (CHECKLIST ROOM-28, ROOM-29, API-22)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from homeserver.events.content.power_levels import DEFAULTS
from homeserver.events.parse import MAX_EVENT_BYTES
from homeserver.events.room_version import RoomVersion
from homeserver.matrix import canonical_json, ids
from homeserver.matrix.errors import BadJson, InvalidParam, TooLarge

_SHORTCODE: Final = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_MOST_ENTRIES: Final = MAX_EVENT_BYTES // len('"a":1,')
"""Of an object of numbers in an event, however short their names are."""
_MEMBERSHIPS: Final = frozenset({"invite", "join", "knock", "leave", "ban"})


def check_client_event(
    event_type: str, state_key: str | None, content: Mapping[str, Any], version: RoomVersion
) -> None:
    """Check what a local user, or a bridge, wants to send.

    Args:
        event_type: Any type; those the specification defines are looked into.
        state_key: None for a message event.
        content: As the client wrote it.
        version: The room's version.

    Raises:
        BadJson: the content does not have the form its type demands, with the path of the mistake.
        InvalidParam: the event type is empty.
        TooLarge: type or state key above 255 bytes, or more levels than fit into an event.
    """
    if not event_type:
        raise InvalidParam("type: must not be empty")
    # spec: client-server-api/#size-limits (API-23)
    if ids.too_long(event_type):
        raise TooLarge("type: longer than 255 bytes")
    if state_key is not None and ids.too_long(state_key):
        raise TooLarge("state_key: longer than 255 bytes")
    if event_type == "m.room.member" and state_key is not None and not ids.is_user_id(state_key):
        raise BadJson("state_key: not a user ID")
    if version.strict_canonical_json:
        # spec: rooms/v6/#canonical-json (API-22)
        canonical_json.check_strict(content, where="content", max_depth=canonical_json.MAX_DEPTH - 1)
    check = (_MESSAGES if state_key is None else _STATE).get(event_type)
    if check is not None:
        check(content)


def _check_message(content: Mapping[str, Any]) -> None:
    # spec: client-server-api/#instant-messaging: without them: 400 (ROOM-28)
    _want_text(content, "msgtype")
    _want_text(content, "body")


def _check_power_levels(content: Mapping[str, Any]) -> None:
    """Numbers only, in every version: strings are read for old events' sake, not written (ROOM-29).

    spec: rooms/v1/#mroompower_levels-events-accept-values-as-strings, server-server-api/#definitions
    """
    for name in DEFAULTS:
        if name in content:
            _want_level(content[name], "content", name)
    entries = 0
    for name in ("users", "events", "notifications"):
        table = content.get(name, {})
        if not isinstance(table, Mapping):
            raise BadJson(f"content.{name}: must be an object")
        entries += len(table)
        if entries > _MOST_ENTRIES:
            raise TooLarge(f"content.{name}: so many do not fit into an event")
        for key, level in table.items():
            _want_level(level, "content", name, key)
    for user_id in content.get("users", {}):
        if not ids.is_user_id(user_id):
            raise BadJson(f"content.users: {user_id!r} is not a user ID")


def _check_member(content: Mapping[str, Any]) -> None:
    membership = content.get("membership")
    if not isinstance(membership, str) or membership not in _MEMBERSHIPS:
        raise BadJson(f"content.membership: must be one of {', '.join(sorted(_MEMBERSHIPS))}")
    for name in ("displayname", "avatar_url", "reason"):
        if content.get(name) is not None:
            _want_text(content, name)


def _check_server_acl(content: Mapping[str, Any]) -> None:
    for name in ("allow", "deny"):
        globs = content.get(name, [])
        if not isinstance(globs, list) or not all(isinstance(glob, str) for glob in globs):
            raise BadJson(f"content.{name}: must be a list of strings")
    if not isinstance(content.get("allow_ip_literals", True), bool):
        raise BadJson("content.allow_ip_literals: must be true or false")


def _check_image_pack(content: Mapping[str, Any]) -> None:
    # spec: client-server-api/#image-packs: the server may look at the shortcodes (ROOM-30)
    images = content.get("images")
    if not isinstance(images, Mapping):
        raise BadJson("content.images: must be an object")
    for shortcode, image in images.items():
        if not _SHORTCODE.fullmatch(shortcode):
            raise BadJson("content.images: a shortcode has 1 to 100 of a-z, A-Z, 0-9, _ and -")
        if not isinstance(image, Mapping) or not isinstance(image.get("url"), str):
            raise BadJson(f"content.images.{shortcode}.url: must be a string")


def _wants_text(name: str) -> Callable[[Mapping[str, Any]], None]:
    def check(content: Mapping[str, Any]) -> None:
        _want_text(content, name)

    return check


_MESSAGES: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {"m.room.message": _check_message}
_STATE: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "m.room.power_levels": _check_power_levels,
    "m.room.member": _check_member,
    "m.room.join_rules": _wants_text("join_rule"),
    "m.room.history_visibility": _wants_text("history_visibility"),
    "m.room.guest_access": _wants_text("guest_access"),
    "m.room.server_acl": _check_server_acl,
    "m.room.encryption": _wants_text("algorithm"),
    "m.room.image_pack": _check_image_pack,
}
"""Types whose content the server itself, or the safety of the room, depends on, and what the specification lets us
refuse. The rest is the clients' business.
"""


def _want_text(content: Mapping[str, Any], name: str) -> None:
    if not isinstance(content.get(name), str):
        raise BadJson(f"content.{name}: must be a string")


def _want_level(level: object, *where: str) -> None:
    if type(level) is not int:
        raise BadJson(f"{'.'.join(where)}: must be an integer")
    if not -canonical_json.MAX_INTEGER <= level <= canonical_json.MAX_INTEGER:
        raise BadJson(f"{'.'.join(where)}: beyond ±(2^53-1)")
