"""What can be seen of an upload of keys before anything is asked of the database. Pure.

spec: client-server-api/#post_matrixclientv3keysupload (E2E-01, E2E-04)
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from homeserver.e2ee.one_time_store import NewKey
from homeserver.matrix import canonical_json, json
from homeserver.matrix.errors import BadJson, InvalidParam, TooLarge
from homeserver.matrix.ids import UserId

MAX_KEYS = 1_000
"""One-time keys of one upload."""
MAX_KEY_BYTES = 16 * 1024
MAX_DEVICE_KEYS_BYTES = 64 * 1024
MAX_FALLBACK = 16
"""Algorithms of one upload with a fallback key."""
MAX_NAME = 255


class Change(enum.Enum):
    """How device keys differ from those before."""

    NONE = enum.auto()
    """In nothing that was signed; or there were none."""
    CONTENT = enum.auto()
    """What is said of the device: signatures of the old object are wrong."""
    IDENTITY = enum.auto()
    """The keys themselves: nothing that the old ones signed can be used by anybody."""


class CheckedKeys(NamedTuple):
    """An upload as it is stored."""

    device: bytes | None
    one_time: Sequence[NewKey]
    fallback: Sequence[NewKey]
    changed: Change = Change.NONE
    """What becomes of what was uploaded before."""


NOTHING = CheckedKeys(None, [], [])


def change_between(before: bytes, after: bytes) -> Change:
    """What another upload of a device's keys means for what was signed of them and with them."""
    was, now = json.loads(before), json.loads(after)
    if was.get("keys") != now.get("keys"):
        return Change.IDENTITY
    bare = [{k: v for k, v in keys.items() if k != "signatures"} for keys in (was, now)]
    return Change.CONTENT if bare[0] != bare[1] else Change.NONE


def check_upload(
    user_id: UserId,
    device_id: str,
    device_keys: Mapping[str, Any] | None,
    one_time_keys: Mapping[str, Any],
    fallback_keys: Mapping[str, Any],
) -> CheckedKeys:
    """Raises `InvalidParam` (another user or device in the body, E2E-01; two fallback keys of an algorithm), `BadJson`,
    `TooLarge`.
    """
    device = None if device_keys is None else _device_keys(user_id, device_id, device_keys)
    once, fallback = _read_keys(one_time_keys, "one_time_keys"), _read_keys(fallback_keys, "fallback_keys")
    if len({key.algorithm for key in fallback}) < len(fallback):
        raise InvalidParam("fallback_keys: more than one key of an algorithm")
    if len(fallback) > MAX_FALLBACK:
        raise InvalidParam(f"fallback_keys: more than {MAX_FALLBACK} algorithms")
    return CheckedKeys(device, once, fallback)


def _device_keys(user_id: UserId, device_id: str, keys: Mapping[str, Any]) -> bytes:
    """The object to be stored. Raises `InvalidParam`, `BadJson`, `TooLarge`."""
    if keys.get("user_id") != user_id:
        raise InvalidParam("device_keys.user_id: not the user who uploads")
    if keys.get("device_id") != device_id:
        raise InvalidParam("device_keys.device_id: not the device that uploads")
    algorithms = keys.get("algorithms")
    if not isinstance(algorithms, list) or not all(isinstance(name, str) for name in algorithms):
        raise BadJson("device_keys.algorithms: not a list of names")
    _check_strings(keys.get("keys"), "device_keys.keys")
    signatures = keys.get("signatures", {})
    if not isinstance(signatures, Mapping):
        raise BadJson("device_keys.signatures: not an object")
    for signer, by_key in signatures.items():
        if signer != user_id:  # others would be shown it as a signature of theirs
            raise InvalidParam("device_keys.signatures: of somebody else")
        _check_strings(by_key, "device_keys.signatures")
    data = canonical_json.encode_strict({key: value for key, value in keys.items() if key != "unsigned"})
    if len(data) > MAX_DEVICE_KEYS_BYTES:
        raise TooLarge(f"device_keys: more than {MAX_DEVICE_KEYS_BYTES} bytes")
    return data


def _read_keys(keys: Mapping[str, Any], where: str) -> list[NewKey]:
    """One-time or fallback keys as rows, in the order of the body. Raises `BadJson`, `InvalidParam`, `TooLarge`."""
    if len(keys) > MAX_KEYS:
        raise InvalidParam(f"{where}: more than {MAX_KEYS} keys")
    rows: list[NewKey] = []
    for name, key in keys.items():
        algorithm, colon, key_id = name.partition(":")
        if not (algorithm and colon and key_id) or len(name) > MAX_NAME or "\0" in name:
            raise InvalidParam(f"{where}: {name[:80]!r} is not algorithm:id")
        if isinstance(key, dict):
            if not isinstance(key.get("key"), str):
                raise BadJson(f"{where}.{name}.key: not a string")
        elif not isinstance(key, str):
            raise BadJson(f"{where}.{name}: neither a string nor an object")
        data = canonical_json.encode_strict(key)  # one spelling, whatever numbers are in it
        if len(data) > MAX_KEY_BYTES:
            raise TooLarge(f"{where}.{name}: more than {MAX_KEY_BYTES} bytes")
        rows.append(NewKey(algorithm, key_id, data))
    return rows


def _check_strings(value: object, where: str) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise BadJson(f"{where}: not an object of strings")
