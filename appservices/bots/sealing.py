"""Encryption of stream updates: AES-GCM with a key that stands in an encrypted message. spec: MSC4471, Stream encryption"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appservices.bots.clock import random_bytes

ALGORITHM: Final = "org.matrix.msc4471.stream.v1.aes-gcm"
_IV_BYTES: Final = 12
MAX_SEALED: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Seal:
    """The key of one stream, 32 bytes."""

    key: bytes

    @classmethod
    def new(cls) -> Seal:
        return cls(random_bytes(32))

    @property
    def key_text(self) -> str:
        return _encode(self.key)

    def id_of(self, room_id: str, event_id: str) -> str:
        """How the stream is called to whoever has the key."""
        return _encode(hmac.digest(self.key, (room_id + event_id).encode(), hashlib.sha256))

    def close(self, kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """The content of an `m.room.encrypted` message to a device. `content` has `room_id` and `event_id`."""
        iv = random_bytes(_IV_BYTES)
        plain = json.dumps({"type": kind, "content": content}).encode()
        return {
            "algorithm": ALGORITHM,
            "stream_id": self.id_of(content["room_id"], content["event_id"]),
            "iv": _encode(iv),
            "ciphertext": _encode(AESGCM(self.key).encrypt(iv, plain, None)),
        }

    def open(self, content: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
        """Type and content of what is in it; None: it was not made with this key, or is about another event."""
        iv, sealed = content.get("iv"), content.get("ciphertext")
        if not (isinstance(iv, str) and isinstance(sealed, str)) or len(sealed) > MAX_SEALED:
            return None
        try:
            found = json.loads(AESGCM(self.key).decrypt(_decode(iv), _decode(sealed), None))
        except (InvalidTag, ValueError, binascii.Error):
            return None
        inside = found.get("content") if isinstance(found, dict) else None
        if not isinstance(inside, dict) or not isinstance(found.get("type"), str):
            return None
        room_id, event_id = inside.get("room_id"), inside.get("event_id")
        if not (isinstance(room_id, str) and isinstance(event_id, str)):
            return None
        return (found["type"], inside) if self.id_of(room_id, event_id) == content.get("stream_id") else None


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
