"""Keys as clients see them: what was uploaded, with the signatures the reader may see. Pure.

spec: client-server-api/#post_matrixclientv3keysquery, #key-and-signature-security (E2E-05, E2E-06)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from homeserver.e2ee.signing_store import MASTER, SELF_SIGNING, USER_SIGNING, SignatureRow, SigningRow
from homeserver.e2ee.store import DeviceRow
from homeserver.matrix import json
from homeserver.matrix.ids import UserId


class KeysOfUsers(msgspec.Struct):
    """The answer of /keys/query."""

    device_keys: dict[str, dict[str, Any]] = {}
    failures: dict[str, Any] = {}
    master_keys: dict[str, Any] = {}
    self_signing_keys: dict[str, Any] = {}
    user_signing_keys: dict[str, Any] = {}


def merge_keys(  # noqa: PLR0917  # one value each, called in one place
    users: Sequence[UserId],
    names: Mapping[int, UserId],
    devices: Sequence[DeviceRow],
    signing: Sequence[SigningRow],
    signatures: Sequence[SignatureRow],
    reader: UserId | None,
) -> KeysOfUsers:
    """Put rows together. `names`: of all users in the rows; users without keys have no devices."""
    found = KeysOfUsers(device_keys={user: {} for user in users})
    by_target: dict[tuple[int, str], list[SignatureRow]] = {}
    for row in signatures:
        by_target.setdefault((row.target_nid, row.target_key), []).append(row)
    for device in devices:
        keys = json.loads(device.keys)
        _sign(keys, by_target.get((device.user_nid, device.device_id), ()), names)
        if device.display_name:
            keys["unsigned"] = {"device_display_name": device.display_name}
        found.device_keys[names[device.user_nid]][device.device_id] = keys
    kinds = {
        MASTER: found.master_keys,
        SELF_SIGNING: found.self_signing_keys,
        USER_SIGNING: found.user_signing_keys,
    }
    for key in signing:
        owner = names[key.user_nid]
        if key.usage == USER_SIGNING and owner != reader:
            continue  # one's own alone
        whole = json.loads(key.key)
        _sign(whole, by_target.get((key.user_nid, key.public_key), ()), names)
        kinds[key.usage][owner] = whole
    return found


def _sign(keys: dict[str, Any], rows: Sequence[SignatureRow], names: Mapping[int, UserId]) -> None:
    for row in rows:
        signer = names.get(row.signer_nid)
        if signer is not None:
            keys.setdefault("signatures", {}).setdefault(signer, {})[row.signer_key] = row.signature
