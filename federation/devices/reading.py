"""What other servers say of their users' devices and keys, as it is kept. Pure; whatever is not as it has to be is left out.

Of signatures those of the user alone are kept: nobody is shown a signature of somebody else that another server has made up.
spec: client-server-api/#cross-signing, #key-and-signature-security (E2E-05, E2E-06)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from homeserver.e2ee.checks import MAX_DEVICE_KEYS_BYTES, MAX_KEY_BYTES, MAX_NAME
from homeserver.e2ee.types import MASTER, SELF_SIGNING, DeviceRow, SigningRow
from homeserver.matrix import base64, canonical_json
from homeserver.matrix.ids import UserId

USAGES: Final = {MASTER: "master", SELF_SIGNING: "self_signing"}
MAX_DISPLAY_NAME: Final = 255
ED25519_BYTES: Final = 32


def is_name(value: object) -> bool:
    """Whether a device can be called so."""
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and "\0" not in value


def device_of(
    user_id: UserId, user_nid: int, device_id: str, keys: object, display_name: object = None
) -> DeviceRow | None:
    """A device with its keys; None for what is no such thing, or another's."""
    if not is_name(device_id) or not isinstance(keys, Mapping):
        return None
    if keys.get("user_id") != user_id or keys.get("device_id") != device_id:
        return None
    algorithms = keys.get("algorithms")
    if not isinstance(algorithms, list) or not all(isinstance(each, str) for each in algorithms):
        return None
    if not _is_strings(keys.get("keys")):
        return None
    data = _encode(user_id, keys, MAX_DEVICE_KEYS_BYTES)
    if data is None:
        return None
    named = isinstance(display_name, str) and "\0" not in display_name
    return DeviceRow(
        user_nid, device_id, data, str(display_name)[:MAX_DISPLAY_NAME] if named and display_name else None
    )


def signing_key_of(user_id: UserId, user_nid: int, usage: int, key: object) -> SigningRow | None:
    """A cross-signing key; None for what is no such thing, or another's."""
    if not isinstance(key, Mapping) or key.get("user_id") != user_id:
        return None
    usages, keys = key.get("usage"), key.get("keys")
    if not isinstance(usages, list) or USAGES[usage] not in usages:
        return None
    if not isinstance(keys, Mapping) or len(keys) != 1:
        return None
    [(name, public_key)] = keys.items()
    if not isinstance(public_key, str) or name != f"ed25519:{public_key}" or not _is_ed25519(public_key):
        return None
    data = _encode(user_id, key, MAX_KEY_BYTES)
    return None if data is None else SigningRow(user_nid, usage, public_key, data)


def one_time_key_of(algorithm: str, keys: object) -> dict[str, Any] | None:
    """`algorithm:id` -> key, of the algorithm that was asked for."""
    if not isinstance(keys, Mapping) or len(keys) != 1:
        return None
    [(name, key)] = keys.items()
    if not name.startswith(f"{algorithm}:") or len(name) > MAX_NAME:
        return None
    if not isinstance(key, str) and not (isinstance(key, Mapping) and isinstance(key.get("key"), str)):
        return None
    try:
        fits = len(canonical_json.encode(key)) <= MAX_KEY_BYTES
    except ValueError:
        return None
    return {name: key} if fits else None


def _encode(user_id: UserId, keys: Mapping[str, Any], most: int) -> bytes | None:
    kept = {name: value for name, value in keys.items() if name not in ("unsigned", "signatures")}
    signatures = keys.get("signatures")
    own = signatures.get(user_id) if isinstance(signatures, Mapping) else None
    if _is_strings(own):
        kept["signatures"] = {user_id: own}
    try:
        data = canonical_json.encode(kept)
    except ValueError:
        return None
    return data if len(data) <= most else None


def _is_strings(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values())


def _is_ed25519(public_key: str) -> bool:
    try:
        return len(base64.decode(public_key)) == ED25519_BYTES
    except ValueError:
        return False
