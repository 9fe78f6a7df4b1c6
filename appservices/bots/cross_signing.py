"""Cross-signing of the bot's own device: who gives keys to devices alone that their owners have signed gives them to the bot, too.

The bot has a master key and a self-signing key, in a file beside the keys of its device. It verifies nobody, so it has no
user-signing key. spec: client-server-api/#cross-signing; MSC4153 (clients leave out devices that are not signed)
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appservices.bots.client import V3, Client
from appservices.bots.clock import random_bytes
from appservices.bots.errors import NotConfigured, Refused

FILE: Final = "cross-signing.json"
_SEED_BYTES: Final = 32


class CrossSigning:
    """The keys with which a bot signs its device. They are made when there are none in the folder."""

    def __init__(self, client: Client, folder: Path) -> None:
        """Raises `NotConfigured` where the file with the keys is none."""
        self._client = client
        master, self._self_signing = _read_or_make(folder / FILE)
        self._master = _public(master)
        self._published = {
            "self_signing_key": self._signed(master, self._key("self_signing", _public(self._self_signing))),
            "master_key": self._key("master", self._master),
        }

    async def sign(self, device_id: str, ed25519: str) -> bool:
        """Publish the keys and sign the device, as far as that has not been done; `ed25519`: the device's fingerprint.

        False: the homeserver does not know the device's keys yet. Raises `Refused`, `Unreachable`.
        """
        user_id = self._client.user_id
        body: dict[str, Any] = {"device_keys": {user_id: []}}
        known = await self._client.transport.request("POST", f"{V3}/keys/query", body=body)
        device = known.get("device_keys", {}).get(user_id, {}).get(device_id, {})
        if device.get("keys", {}).get(f"ed25519:{device_id}") != ed25519:
            return False
        if not self._are_published(known):
            body = dict(self._published)
            await self._client.transport.request("POST", f"{V3}/keys/device_signing/upload", body=body)
        if self._key_id not in device.get("signatures", {}).get(user_id, {}):
            signed = self._signed(self._self_signing, device)
            body = {user_id: {device_id: signed}}
            answer = await self._client.transport.request("POST", f"{V3}/keys/signatures/upload", body=body)
            if answer.get("failures"):
                raise Refused(200, "M_INVALID_SIGNATURE", "the signature of the device was not taken")
        return True

    def _are_published(self, known: Mapping[str, Any]) -> bool:
        user_id = self._client.user_id
        return all(
            known.get(f"{name}s", {}).get(user_id, {}).get("keys") == key["keys"]
            for name, key in self._published.items()
        )

    def _key(self, usage: str, public: str) -> dict[str, Any]:
        return {"user_id": self._client.user_id, "usage": [usage], "keys": {f"ed25519:{public}": public}}

    @property
    def _key_id(self) -> str:
        return f"ed25519:{_public(self._self_signing)}"

    def _signed(self, key: Ed25519PrivateKey, signable: Mapping[str, Any]) -> dict[str, Any]:
        """The object with this signature alone. spec: appendices/#signing-json"""
        bare = {name: value for name, value in signable.items() if name not in {"signatures", "unsigned"}}
        canonical = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        signature = _text(key.sign(canonical.encode()))
        return {**bare, "signatures": {self._client.user_id: {f"ed25519:{_public(key)}": signature}}}


def _read_or_make(file: Path) -> tuple[Ed25519PrivateKey, Ed25519PrivateKey]:
    """The master key and the self-signing key. Readable to the bot's user alone, and on the disk before they are used."""
    try:
        raw = json.loads(file.read_bytes())
        seeds = [base64.b64decode(raw[name], validate=True) for name in ("master", "self_signing")]
    except FileNotFoundError:
        seeds = [random_bytes(_SEED_BYTES), random_bytes(_SEED_BYTES)]
        _write(file, dict(zip(("master", "self_signing"), map(_padded, seeds), strict=True)))
    except (ValueError, KeyError, TypeError):
        raise NotConfigured(f"{file} holds no keys: remove it, and the bot has a new identity") from None
    try:
        master, self_signing = map(Ed25519PrivateKey.from_private_bytes, seeds)
    except ValueError:
        raise NotConfigured(f"{file} holds no keys: remove it, and the bot has a new identity") from None
    return master, self_signing


def _write(file: Path, content: Mapping[str, str]) -> None:
    fresh = file.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        json.dump(content, output)
        output.flush()
        os.fsync(output.fileno())
    fresh.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _public(key: Ed25519PrivateKey) -> str:
    return _text(key.public_key().public_bytes_raw())


def _text(raw: bytes) -> str:
    """Unpadded Base64. spec: appendices/#unpadded-base64"""
    return _padded(raw).rstrip("=")


def _padded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
