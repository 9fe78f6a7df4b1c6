"""The keys of this server: what it signs with, what it signed with before, and the answer that tells others.

spec: server-server-api/#publishing-keys (CHECKLIST FED-05)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from federation.x_matrix import Signer
from homeserver.events.signatures import KeyRecord
from homeserver.matrix import base64, canonical_json
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import SigningKey, sign_json
from homeserver.runtime.clock import Clock

_FOREVER_MS: Final = 2**53 - 1
REMADE_MS: Final = 60_000
"""An answer is signed anew when it is older."""


class OldKey(NamedTuple):
    """A key that no longer signs."""

    public_key: bytes
    """32 bytes."""
    expired_ts: int
    """Unix ms."""


class OwnKeys:
    """What this server tells of its keys, and signs with."""

    def __init__(
        self,
        server_name: ServerName,
        key: Callable[[], SigningKey],
        old: Callable[[], Mapping[str, OldKey]],
        clock: Clock,
        validity_ms: int,
    ) -> None:
        """`key` and `old` say what holds at the moment; `validity_ms`: how long others may keep an answer."""
        self.server_name = server_name
        self._key = key
        self._old = old
        self._clock = clock
        self._validity_ms = validity_ms
        self._made: tuple[int, SigningKey, int, bytes] | None = None

    def signer(self) -> Signer:
        """With which requests are signed."""
        return Signer(self.server_name, self._key())

    def sign(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of a JSON object with our signature. Raises `ValueError` if it is not canonical JSON."""
        return sign_json(obj, self.server_name, self._key())

    def records(self) -> dict[str, KeyRecord]:
        """Our own keys as those of another server would be known, by key id."""
        now, key = self._clock.now_ms(), self._key()
        records = {
            key_id: KeyRecord(key_id, old.public_key, old.expired_ts, now, old=True)
            for key_id, old in self._old().items()
        }
        records[key.key_id] = KeyRecord(key.key_id, key.public_key, _FOREVER_MS, now)
        return records

    def published(self) -> bytes:
        """The answer of `/key/v2/server` as JSON."""
        key, old, now = self._key(), self._old(), self._clock.now_ms()
        if self._made is not None:
            made_ms, with_key, with_old, answer = self._made
            if with_key is key and with_old == len(old) and 0 <= now - made_ms < REMADE_MS:
                return answer
        # As it was signed, so that who takes the signatures out has what they are of.
        answer = canonical_json.encode(self.response(now))
        self._made = (now, key, len(old), answer)
        return answer

    def response(self, now_ms: int) -> dict[str, Any]:
        """The same as an object, made now."""
        key = self._key()
        told = {
            "server_name": self.server_name,
            "valid_until_ts": now_ms + self._validity_ms,
            "verify_keys": {key.key_id: {"key": base64.encode(key.public_key)}},
            "old_verify_keys": {
                key_id: {"key": base64.encode(old.public_key), "expired_ts": old.expired_ts}
                for key_id, old in self._old().items()
                if key_id != key.key_id
            },
        }
        return sign_json(told, self.server_name, key)
