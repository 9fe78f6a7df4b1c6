"""Keys as clients see them: what was uploaded, with the signatures everybody may see. Pure.

spec: client-server-api/#post_matrixclientv3keysquery, #key-and-signature-security (E2E-05, E2E-06)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from homeserver.e2ee.types import MASTER, SELF_SIGNING, USER_SIGNING, DeviceRow, SignatureRow, SigningRow
from homeserver.matrix import json
from homeserver.matrix.ids import UserId

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class UserKeys:
    """A user's keys as JSON, signed by nobody but their owner; each ready to be a member of the answer."""

    __slots__ = ("nid", "name", "devices", "master_id", "signing")

    def __init__(self, user_id: UserId, nid: int = 0) -> None:
        self.nid = nid
        """The user's number; 0 for who does not exist."""
        self.name = json.dumps(user_id) + b":"
        self.devices = self.name + b"{}"
        """`"user_id":{"device_id":keys}`, with devices' names."""
        self.master_id: str | None = None
        """What the master key is called: its public key."""
        self.signing: dict[int, bytes] = {}
        """usage -> `"user_id":key`; the user-signing key is for the user's own eyes."""

    @property
    def size(self) -> int:
        """About how many bytes it is."""
        return 500 + len(self.devices) + sum(map(len, self.signing.values()))

    def by_device(self) -> dict[str, msgspec.Raw]:
        """device_id -> its keys, with its name in `unsigned`."""
        return _members(self.devices[len(self.name) :])

    def without_names(self) -> UserKeys:
        """The same, but for what the user calls the devices."""
        found = UserKeys.__new__(UserKeys)
        found.nid, found.name, found.master_id, found.signing = (
            self.nid,
            self.name,
            self.master_id,
            self.signing,
        )
        devices = {device_id: _members(raw) for device_id, raw in self.by_device().items()}
        for members in devices.values():
            members.pop("unsigned", None)
        found.devices = self.name + json.dumps(devices)
        return found

    def key(self, usage: int) -> bytes | None:
        """A cross-signing key, if there is one."""
        named = self.signing.get(usage)
        return None if named is None else named[len(self.name) :]

    def devices_of(self, only: Sequence[str]) -> bytes:
        """As `devices`, of some devices alone."""
        found = self.by_device()
        return self.name + json.dumps(
            {device_id: found[device_id] for device_id in only if device_id in found}
        )

    def master_signed(self, signer: UserId, signatures: Sequence[SignatureRow]) -> bytes:
        """The master key as somebody sees it who has signed it."""
        return self.name + signed(self.signing[MASTER][len(self.name) :], signer, signatures)


def render(
    names: Mapping[int, UserId],
    devices: Sequence[DeviceRow],
    signing: Sequence[SigningRow],
    signatures: Sequence[SignatureRow],
) -> dict[int, UserKeys]:
    """Put rows together; `names`: user_nid -> user id of everybody asked about. `signatures`: owners' of their own keys."""
    found = {nid: UserKeys(user, nid) for nid, user in names.items()}
    by_target: dict[tuple[int, str], list[SignatureRow]] = {}
    for row in signatures:
        by_target.setdefault((row.target_nid, row.target_key), []).append(row)
    members: dict[int, list[bytes]] = {nid: [] for nid in names}
    for device in devices:
        rows = by_target.get((device.user_nid, device.device_id), ())
        keys = signed(device.keys, names[device.user_nid], rows)
        if device.display_name:
            name = json.dumps(device.display_name)
            keys = json.object_with(keys, b'"unsigned":{"device_display_name":%b}' % name)
        members[device.user_nid].append(b"%b:%b" % (json.dumps(device.device_id), keys))
    for nid, of_user in members.items():
        found[nid].devices = b"%b{%b}" % (found[nid].name, b",".join(of_user))
    for key in signing:
        user = found[key.user_nid]
        rows = by_target.get((key.user_nid, key.public_key), ())
        user.signing[key.usage] = user.name + signed(key.key, names[key.user_nid], rows)
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

    def __init__(self) -> None:
        self._devices: list[bytes] = []
        self._signing: dict[int, list[bytes]] = {MASTER: [], SELF_SIGNING: [], USER_SIGNING: []}

    def add_all(self, users: Sequence[UserKeys]) -> None:
        """All devices and keys of users, as anybody sees them."""
        self._devices += [keys.devices for keys in users]
        signing = [keys.signing for keys in users if keys.signing]
        for usage in (MASTER, SELF_SIGNING):
            self._signing[usage] += [keys[usage] for keys in signing if usage in keys]

    def add(self, keys: UserKeys, only: Sequence[str], master: bytes | None, *, own: bool) -> None:
        """A user's keys, of all devices or `only` of some. `master`: the master key, if the reader sees it otherwise.
        `own`: they are the reader's.
        """
        self._devices.append(keys.devices_of(only) if only else keys.devices)
        for usage, key in keys.signing.items():
            if own or usage != USER_SIGNING:
                self._signing[usage].append(master if usage == MASTER and master is not None else key)

    def body(self, failures: bytes) -> bytes:
        """The whole; `failures`: an object."""
        return (
            b'{"device_keys":{%b},"failures":%b,"master_keys":{%b},"self_signing_keys":{%b},"user_signing_keys":{%b}}'
        ) % (
            b",".join(self._devices),
            failures,
            *(b",".join(self._signing[usage]) for usage in (MASTER, SELF_SIGNING, USER_SIGNING)),
        )

    def body_for_server(self) -> bytes:
        """The whole for another server. spec: op:queryUserEncryptionKeys"""
        return b'{"device_keys":{%b},"master_keys":{%b},"self_signing_keys":{%b}}' % (
            b",".join(self._devices),
            *(b",".join(self._signing[usage]) for usage in (MASTER, SELF_SIGNING)),
        )
