"""Whether an event carries the signatures it must, judged by keys that somebody has fetched. Pure: says which keys are missing.

spec: server-server-api/#validating-hashes-and-signatures-on-received-events, rooms/v5/#signing-key-validity-period (EVT-06,
EVT-23), server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from homeserver.events.auth_rules import required_signers
from homeserver.events.event import Event
from homeserver.events.hashing import signed_bytes
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import verify_bytes

MAX_VALIDITY_MS: Final = 7 * 24 * 3600 * 1000
"""However long a server claims its key to be valid, it must be able to take it back."""
MAX_SIGNATURES: Final = 20
"""Of one server that are looked at: each may mean a key to fetch and a signature to check."""


class KeyRecord(NamedTuple):
    """A server's public key as a response told it whose own signatures were verified."""

    key_id: str
    """`ed25519:version`."""
    public_key: bytes
    """32 bytes."""
    valid_until_ts: int
    """Unix ms: `valid_until_ts` of the response; of an old key its `expired_ts`."""
    received_ts: int
    """Unix ms, when the response came."""
    old: bool = False
    """From `old_verify_keys`: good for what was signed before, and never for longer."""


class WantedKeys(NamedTuple):
    """Keys without which nothing can be said: fetch them anew, of this validity at least, and ask again."""

    server: ServerName
    key_ids: frozenset[str]
    minimum_valid_until_ts: int
    """Unix ms; 0 in room versions that do not ask for it."""


def valid_until(key: KeyRecord) -> int:
    """Unix ms until which a key may sign events: never more than 7 days after it was heard of (EVT-06)."""
    return key.valid_until_ts if key.old else min(key.valid_until_ts, key.received_ts + MAX_VALIDITY_MS)


def check_signatures(event: Event, keys: Mapping[ServerName, Iterable[KeyRecord]]) -> Sequence[WantedKeys]:
    """Check that every server that must has signed the event, with a key that was valid at the time.

    Returns what has to be fetched before that can be told; empty if all is well.
    Raises `InvalidSignature` if a signature is missing, or does not match a key that is known and was valid.
    """
    signed = signed_bytes(event.fields, event.room_version)
    wanted: list[WantedKeys] = []
    for server in sorted(required_signers(event)):
        missing = _check_server(event, signed, server, {key.key_id: key for key in keys.get(server, ())})
        if missing is not None:
            wanted.append(missing)
    return wanted


def _check_server(
    event: Event, signed: bytes, server: ServerName, keys: Mapping[str, KeyRecord]
) -> WantedKeys | None:
    enforced = event.room_version.enforce_key_validity
    signatures = _signatures_of(event, server)
    unknown: set[str] = set()
    mismatch: InvalidSignature | None = None
    good = False
    # spec: server-server-api/#validating-hashes-and-signatures-on-received-events: keys that are unknown or no longer used are
    # skipped; of the others every signature has to match, and there has to be one (FED-11)
    for key_id, signature in signatures.items():
        key = keys.get(key_id)
        # spec: rooms/v5/#signing-key-validity-period: valid at the time the event was made; before version 5 nobody asks
        if key is None or (enforced and valid_until(key) < event.origin_server_ts and not key.old):
            unknown.add(key_id)
            continue
        if enforced and valid_until(key) < event.origin_server_ts:
            mismatch = InvalidSignature(f"{server} no longer used {key_id} when it signed")
            continue
        verify_bytes(signed, signature, key_id, key.public_key)
        good = True
    if good:
        return None
    if unknown:
        return WantedKeys(server, frozenset(unknown), event.origin_server_ts if enforced else 0)
    raise mismatch or InvalidSignature(f"No signature by {server}")


def _signatures_of(event: Event, server: ServerName) -> dict[str, str]:
    """The server's signatures by algorithms we know."""
    signatures = event.fields.get("signatures")
    by_key = signatures.get(server) if isinstance(signatures, Mapping) else None
    if not isinstance(by_key, Mapping):
        return {}
    known = {k: text for k, text in by_key.items() if k.startswith("ed25519:") and isinstance(text, str)}
    return dict(sorted(known.items())[:MAX_SIGNATURES])
