"""Device keys as a client makes them: real signatures, for servers verify what they can.

spec: client-server-api/#key-algorithms, appendices/#signing-json
"""

from __future__ import annotations

import base64
import os
from typing import Any

import msgspec
from nacl.signing import SigningKey

from benchmarks.people import Person

ALGORITHMS = ("m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2")


class DeviceKeys:
    """The long-term keys of one device, and as many one-time keys as are wanted."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._signing = SigningKey(os.urandom(32))
        self._curve25519 = os.urandom(32)
        self._algorithms: tuple[str, ...] = ALGORITHMS
        self._changes = 0
        self._made = 0

    def identity(self) -> dict[str, Any]:
        """The `device_keys` object of /keys/upload."""
        device = self._person.device_id
        return self._signed(
            {
                "user_id": self._person.user_id,
                "device_id": device,
                "algorithms": list(self._algorithms),
                "keys": {
                    f"curve25519:{device}": unpadded(self._curve25519),
                    f"ed25519:{device}": unpadded(bytes(self._signing.verify_key)),
                },
            }
        )

    def changed_identity(self) -> dict[str, Any]:
        """The same keys with another list of algorithms, as after an update of the client."""
        self._changes += 1
        self._algorithms = (*ALGORITHMS, f"org.example.algorithm.{self._changes}")
        return self.identity()

    def one_time_keys(self, number: int) -> dict[str, Any]:
        """The `one_time_keys` object of /keys/upload with `number` new keys."""
        keys = {}
        for _ in range(number):
            name = unpadded(self._made.to_bytes(4, "big"))
            keys[f"signed_curve25519:{name}"] = self._signed({"key": unpadded(os.urandom(32))})
            self._made += 1
        return keys

    def _signed(self, content: dict[str, Any]) -> dict[str, Any]:
        signature = self._signing.sign(msgspec.json.encode(content, order="sorted")).signature
        name = f"ed25519:{self._person.device_id}"
        return {**content, "signatures": {self._person.user_id: {name: unpadded(signature)}}}


def unpadded(raw: bytes) -> str:
    """spec: appendices/#unpadded-base64"""
    return base64.b64encode(raw).decode().rstrip("=")
