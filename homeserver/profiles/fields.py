"""What a profile may hold: the grammar of field names, the values of known fields, and how large it may become.

spec: client-server-api/#profiles, appendices/#common-namespaced-identifier-grammar (CHECKLIST USER-02)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from homeserver.matrix.errors import InvalidParam, KeyTooLarge, MissingParam, ProfileTooLarge
from homeserver.matrix.folding import fold
from homeserver.profiles.store import Stored
from homeserver.profiles.types import AVATAR_URL, DISPLAYNAME, TIME_ZONE

MAX_KEY_BYTES = 255
MAX_PROFILE_BYTES = 64 * 1024
MAX_DISPLAYNAME = 256
MAX_AVATAR_URL = 1000
MAX_TIME_ZONE = 255

_KEY = re.compile(r"[a-z][a-z0-9_.-]*", re.ASCII)
_MXC = re.compile(r"mxc://[0-9A-Za-z.:\[\]-]+/[A-Za-z0-9_-]+", re.ASCII)

REMOVED: Any = object()
"""The value that stands for "no such field"."""


def check_key(key: str) -> None:
    """Raises `KeyTooLarge`, `InvalidParam`."""
    if len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES:
        raise KeyTooLarge(f"A field's name has at most {MAX_KEY_BYTES} bytes")
    if not _KEY.fullmatch(key):
        raise InvalidParam("Invalid profile key: a-z first, then a-z, 0-9 and the signs _ . -")


def value_in(body: Mapping[str, Any], key: str) -> Any:
    """The value a body sets the field to; `REMOVED` where a client empties a name or picture, as clients always have.

    Raises:
        MissingParam: the body does not hold the field.
        InvalidParam: the field cannot have this value.
    """
    if key not in body:
        raise MissingParam(f"Missing required key: {key}")
    value = body[key]
    if key in (DISPLAYNAME, AVATAR_URL) and value in (None, ""):
        return REMOVED
    limit = {DISPLAYNAME: MAX_DISPLAYNAME, AVATAR_URL: MAX_AVATAR_URL, TIME_ZONE: MAX_TIME_ZONE}.get(key)
    if limit is None:
        return value
    if not isinstance(value, str):
        raise InvalidParam(f"{key}: not a string")
    if len(value) > limit:
        raise InvalidParam(f"{key}: longer than {limit} characters")
    if key == AVATAR_URL and not _MXC.fullmatch(value):
        raise InvalidParam("avatar_url: not an mxc:// URI")
    return value


def stored(fields: Mapping[str, Any]) -> Stored:
    """As stored. Raises `ProfileTooLarge`."""
    encoded = msgspec.json.encode(fields)
    if len(encoded) > MAX_PROFILE_BYTES:
        raise ProfileTooLarge(f"A profile has at most {MAX_PROFILE_BYTES} bytes")
    return Stored(encoded, folded_name(fields))


def folded_name(fields: Mapping[str, Any]) -> str:
    """What a user is found by beside their id; empty without a display name."""
    name = fields.get(DISPLAYNAME)
    return fold(name) if isinstance(name, str) else ""
