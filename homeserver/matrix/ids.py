"""Identifiers: `NewType`s over `str`, validated where they enter.

spec: appendices/#identifier-grammar
"""

from __future__ import annotations

import functools
import re
from typing import NewType

from homeserver.matrix.errors import InvalidParam

UserId = NewType("UserId", str)
"""`@localpart:server`"""
RoomId = NewType("RoomId", str)
"""`!opaque:server`, or from room version 12 `!` and the create event's hash."""
EventId = NewType("EventId", str)
RoomAlias = NewType("RoomAlias", str)
DeviceId = NewType("DeviceId", str)
ServerName = NewType("ServerName", str)

MAX_ID_BYTES = 255

# spec: appendices/#server-name
_SERVER_NAME = re.compile(
    r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(?::\d{1,5})?", re.ASCII
)
# spec: appendices/#user-identifiers: the grammar for new users
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+", re.ASCII)
_NOT_IN_LOCALPART = re.compile(rb"[^a-z0-9._/+-]")
# spec: appendices/#common-namespaced-identifier-grammar
_NAMESPACED = re.compile(r"[a-z][a-z0-9_.-]{0,254}", re.ASCII)
# spec: appendices/#opaque-identifiers
_OPAQUE = re.compile(r"[0-9A-Za-z._~-]{1,255}", re.ASCII)
# spec: rooms/#room-version-grammar
_ROOM_VERSION = re.compile(r"[a-z0-9.-]{1,32}", re.ASCII)
# spec: client-server-api/#requesting-validation: client secrets and session ids
_SECRET = re.compile(r"[0-9a-zA-Z.=_-]{1,255}", re.ASCII)


def is_server_name(value: str) -> bool:
    """`host[:port]` with host a DNS name, an IPv4 literal or a bracketed IPv6 literal; case-sensitive."""
    # What is too long is not remembered either.
    return len(value) <= MAX_ID_BYTES and _is_server_name(value)


@functools.lru_cache(maxsize=4096)
def _is_server_name(value: str) -> bool:
    return _SERVER_NAME.fullmatch(value) is not None


def is_user_id(value: str) -> bool:
    """Historical grammar: any localpart without `:` and NUL, even empty. spec: appendices/#historical-user-ids"""
    return _is_sigil_id(value, "@")


def is_new_localpart(value: str) -> bool:
    """Whether a localpart may be given to a new user: `[a-z0-9._=/+-]+`."""
    return _LOCALPART.fullmatch(value) is not None


def map_to_localpart(name: str, *, keep_case: bool = False) -> str:
    """A localpart for a name from elsewhere (single sign-on, a directory, a bridge), never the same for two names
    unless they differ in case alone.

    Bytes outside the grammar become `=xx`; capitals become small, or with `keep_case` `_` and small (`_` then `__`).
    spec: appendices/#mapping-from-other-character-sets
    """
    name = re.sub("[A-Z_]", lambda m: "_" + m[0].lower(), name) if keep_case else name.lower()
    escaped = _NOT_IN_LOCALPART.sub(lambda m: b"=%02x" % m[0][0], name.encode("utf-8"))
    return escaped.decode("ascii")


def is_namespaced(value: str) -> bool:
    """The grammar of names that anybody may add to: `m.…` is the specification's, others begin with a domain."""
    return _NAMESPACED.fullmatch(value) is not None


def is_opaque(value: str) -> bool:
    return _OPAQUE.fullmatch(value) is not None


def is_client_secret(value: str) -> bool:
    """The grammar of `client_secret` and `sid` in the validation of e-mail addresses and phone numbers."""
    return _SECRET.fullmatch(value) is not None


def is_room_alias(value: str) -> bool:
    return _is_sigil_id(value, "#") and value[1] != ":"


def is_room_version(value: str) -> bool:
    """Whether it could name a room version, known or not. spec: rooms/#room-version-grammar"""
    return _ROOM_VERSION.fullmatch(value) is not None


def is_room_id(value: str) -> bool:
    """`!opaque:server` of versions 1-11 or `!hash` of version 12. spec: appendices/#room-ids"""
    if not value.startswith("!") or len(value) < 2 or "\0" in value or too_long(value):
        return False
    opaque, colon, server = value[1:].partition(":")
    return bool(opaque) and (not colon or is_server_name(server))


def is_event_id(value: str) -> bool:
    return value.startswith("$") and len(value) > 1 and "\0" not in value and not too_long(value)


def is_event_id_with_domain(value: str) -> bool:
    """`$opaque:server`, as room versions 1 and 2 write it."""
    return _is_sigil_id(value, "$") and value[1] != ":"


def domain_of(value: str) -> ServerName:
    """The server part of a user id, alias or (old) room id: what follows the first colon; empty if there is none."""
    return ServerName(value.partition(":")[2])


def localpart_of(value: str) -> str:
    """What stands between the sigil and the first colon."""
    return value[1:].partition(":")[0]


def too_long(value: str) -> bool:
    """Whether an identifier, event type or state key has more than 255 bytes. spec: client-server-api/#size-limits"""
    if len(value) > MAX_ID_BYTES:
        return True
    return not value.isascii() and len(value.encode("utf-8", "surrogatepass")) > MAX_ID_BYTES


def user_id(value: str, where: str = "user_id") -> UserId:
    """Validate at the edge. Raises `InvalidParam` naming `where`."""
    if not is_user_id(value):
        raise InvalidParam(f"{where}: not a user ID")
    return UserId(value)


def room_id(value: str, where: str = "room_id") -> RoomId:
    """Validate at the edge. Raises `InvalidParam` naming `where`."""
    if not is_room_id(value):
        raise InvalidParam(f"{where}: not a room ID")
    return RoomId(value)


def room_alias(value: str, where: str = "room_alias") -> RoomAlias:
    """Validate at the edge. Raises `InvalidParam` naming `where`."""
    if not is_room_alias(value):
        raise InvalidParam(f"{where}: not a room alias")
    return RoomAlias(value)


def _is_sigil_id(value: str, sigil: str) -> bool:
    if value[:1] != sigil or "\0" in value or too_long(value):
        return False
    _, colon, server = value.partition(":")
    return colon == ":" and _is_server_name(server)  # it is not too long
