"""Keys as clients see them: what was uploaded, with the signatures everybody may see. Pure.

spec: client-server-api/#post_matrixclientv3keysquery, #key-and-signature-security (E2E-05, E2E-06)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from homeserver.e2ee.signing_store import MASTER, SELF_SIGNING, USER_SIGNING, SignatureRow, SigningRow
from homeserver.e2ee.store import DeviceRow
from homeserver.matrix import json
from homeserver.matrix.ids import UserId

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class UserKeys:
    """A user's keys as JSON, signed by nobody but their owner."""

    __slots__ = ("devices", "master_id", "signing")

    def __init__(self) -> None:
        self.devices: dict[str, bytes] = {}
        """device_id -> its keys, with its name."""
        self.master_id: str | None = None
        """What the master key is called: its public key."""
        self.signing: dict[int, bytes] = {}
        """usage -> cross-signing key; the user-signing key is for the user's own eyes."""

    @property
    def size(self) -> int:
        """About how many bytes it is."""
        return 500 + sum(map(len, self.devices.values())) + sum(map(len, self.signing.values()))


def render(
    names: Mapping[int, UserId],
    devices: Sequence[DeviceRow],
    signing: Sequence[SigningRow],
    signatures: Sequence[SignatureRow],
) -> dict[int, UserKeys]:
    """Put rows together; `names`: user_nid -> user id of everybody asked about. `signatures`: owners' of their own keys."""
    found = {nid: UserKeys() for nid in names}
    by_target: dict[tuple[int, str], list[SignatureRow]] = {}
    for row in signatures:
        by_target.setdefault((row.target_nid, row.target_key), []).append(row)
    for device in devices:
        rows = by_target.get((device.user_nid, device.device_id), ())
        keys = signed(device.keys, names[device.user_nid], rows)
        if device.display_name:
            name = json.dumps(device.display_name)
            keys = json.object_with(keys, b'"unsigned":{"device_display_name":%b}' % name)
        found[device.user_nid].devices[device.device_id] = keys
    for key in signing:
        user = found[key.user_nid]
        rows = by_target.get((key.user_nid, key.public_key), ())
        user.signing[key.usage] = signed(key.key, names[key.user_nid], rows)
        if key.usage == MASTER:
            user.master_id = key.public_key
    return found


def signed(key: bytes, signer: UserId, signatures: Sequence[SignatureRow]) -> bytes:
    """A key as JSON with further signatures of one user."""
    if not signatures:
        return key
    members = _members(key)
    before = members.get("signatures")
    all_of_them = json.loads(before) if before is not None else {}
    own = all_of_them.setdefault(signer, {})
    for row in signatures:
        own[row.signer_key] = row.signature
    members["signatures"] = msgspec.Raw(json.dumps(all_of_them))
    return json.dumps(members)


class Answer:
    """The answer of /keys/query, put together user by user."""

    def __init__(self, reader: UserId | None) -> None:
        self._reader = reader
        self._devices: list[bytes] = []
        self._signing: dict[int, list[bytes]] = {MASTER: [], SELF_SIGNING: [], USER_SIGNING: []}

    def add(self, user_id: UserId, keys: UserKeys, only: Sequence[str], master: bytes | None) -> None:
        """A user's keys, of all devices or `only` of some. `master`: the master key, if the reader sees it otherwise."""
        name = json.dumps(user_id)
        shown = keys.devices
        if only:
            shown = {device_id: shown[device_id] for device_id in set(only) if device_id in shown}
        members = [b"%b:%b" % (json.dumps(device_id), device) for device_id, device in shown.items()]
        self._devices.append(b"%b:{%b}" % (name, b",".join(members)))
        for usage, key in keys.signing.items():
            if usage != USER_SIGNING or user_id == self._reader:  # that one is one's own alone
                own = master if usage == MASTER and master is not None else key
                self._signing[usage].append(b"%b:%b" % (name, own))

    def body(self, failures: bytes) -> bytes:
        """The whole; `failures`: an object."""
        return (
            b'{"device_keys":{%b},"failures":%b,"master_keys":{%b},"self_signing_keys":{%b},"user_signing_keys":{%b}}'
        ) % (
            b",".join(self._devices),
            failures,
            *(b",".join(self._signing[usage]) for usage in (MASTER, SELF_SIGNING, USER_SIGNING)),
        )
