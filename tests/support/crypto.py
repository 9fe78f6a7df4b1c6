"""Keys as clients make them: signed device keys, one-time keys, cross-signing keys. Real ed25519, invented curve25519."""

import os
from itertools import count
from typing import Any

import nacl.signing

from homeserver.matrix import base64, canonical_json
from tests.support.user import User

Json = dict[str, Any]
ONE_TIME = "signed_curve25519"
_numbers = count(1)


def some_key() -> str:
    """32 bytes nobody has used before, as unpadded Base64."""
    return base64.encode(os.urandom(32))


class Signer:
    """An ed25519 key that signs JSON; called after its public part unless told otherwise."""

    def __init__(self, name: str | None = None) -> None:
        self._key = nacl.signing.SigningKey.generate()
        self.public = base64.encode(bytes(self._key.verify_key))
        self.key_id = f"ed25519:{name or self.public}"

    def sign(self, user_id: str, obj: Json) -> Json:
        """A copy with this key's signature beside those that are there."""
        bare = {key: value for key, value in obj.items() if key not in {"signatures", "unsigned"}}
        signature = base64.encode(self._key.sign(canonical_json.encode(bare)).signature)
        signatures = {signer: dict(by_key) for signer, by_key in obj.get("signatures", {}).items()}
        signatures.setdefault(user_id, {})[self.key_id] = signature
        return {**obj, "signatures": signatures}


class DeviceCrypto:
    """What a client keeps of its device's keys."""

    def __init__(self, user: User, device_id: str | None = None) -> None:
        self.user = user
        self.device_id = device_id or user.device_id
        self.signer = Signer(self.device_id)
        self.curve25519 = some_key()

    def device_keys(self, **more: Any) -> Json:
        """Signed by the device."""
        keys = {
            "user_id": self.user.user_id,
            "device_id": self.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                f"curve25519:{self.device_id}": self.curve25519,
                f"ed25519:{self.device_id}": self.signer.public,
            },
            **more,
        }
        return self.signer.sign(self.user.user_id, keys)

    def one_time_keys(self, number: int, algorithm: str = ONE_TIME) -> Json:
        """In order; no name is given twice."""
        return {f"{algorithm}:{next(_numbers):08}": self.signed_key() for _ in range(number)}

    def fallback_key(self, algorithm: str = ONE_TIME) -> Json:
        """One, marked as what it is."""
        return {f"{algorithm}:F{next(_numbers)}": self.signed_key(fallback=True)}

    def signed_key(self, **more: Any) -> Json:
        """A signed curve25519 key."""
        return self.signer.sign(self.user.user_id, {"key": some_key(), **more})

    async def upload(self, number: int = 0, *, keys: bool = True, fallback: bool = False) -> Json:
        """Device keys with so many one-time keys. Returns what was sent."""
        body: Json = {"one_time_keys": self.one_time_keys(number)}
        if keys:
            body["device_keys"] = self.device_keys()
        if fallback:
            body["fallback_keys"] = self.fallback_key()
        await self.user.post("/keys/upload", json=body)
        return body


class Identity:
    """Cross-signing keys of a user."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.master, self.self_signing, self.user_signing = Signer(), Signer(), Signer()

    def key(self, usage: str) -> Json:
        """`master`, `self_signing` or `user_signing`, the latter two signed by the master key."""
        signer: Signer = getattr(self, usage)
        key = {"user_id": self.user.user_id, "usage": [usage], "keys": {signer.key_id: signer.public}}
        return key if usage == "master" else self.master.sign(self.user.user_id, key)

    def body(self) -> Json:
        """For /keys/device_signing/upload."""
        return {f"{usage}_key": self.key(usage) for usage in ("master", "self_signing", "user_signing")}

    async def upload(self) -> None:
        """The user's first."""
        await self.user.post("/keys/device_signing/upload", json=self.body())


async def query(reader: User, *users: User, devices: list[str] | None = None) -> Json:
    """The answer of /keys/query about these users."""
    wanted = {user.user_id: devices or [] for user in users}
    return dict(await reader.post("/keys/query", json={"device_keys": wanted}))


async def claim(
    reader: User, owner: User, device_id: str | None = None, algorithm: str = ONE_TIME
) -> tuple[str, Any] | None:
    """(key id, key) that a claim gave; None: nothing."""
    device = device_id or owner.device_id
    body = {"one_time_keys": {owner.user_id: {device: algorithm}}}
    answer = await reader.post("/keys/claim", json=body)
    found = answer["one_time_keys"].get(owner.user_id, {}).get(device)
    if found is None:
        return None
    [(key_id, key)] = found.items()
    return key_id, key


async def in_encrypted_room(host: User, *others: User) -> str:
    """Everybody joined to one new encrypted room. Returns its ID."""
    state = [{"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
    room = await host.create_room(preset="public_chat", initial_state=state)
    for other in others:
        await other.join(room)
    return room


def changed_in(reply: Json) -> set[str]:
    """`device_lists.changed` of a sync."""
    return set(reply.get("device_lists", {}).get("changed", []))


def left_in(reply: Json) -> set[str]:
    """`device_lists.left` of a sync."""
    return set(reply.get("device_lists", {}).get("left", []))


def messages_in(reply: Json) -> list[Json]:
    """To-device messages of a sync."""
    return list(reply.get("to_device", {}).get("events", []))
