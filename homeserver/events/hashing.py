"""Hashes of events: the content hash inside an event, and the reference hash that names it.

spec: server-server-api/#calculating-the-content-hash-for-an-event,
server-server-api/#calculating-the-reference-hash-for-an-event (CHECKLIST CRY-01, EVT-02)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from homeserver.events.redaction import redact
from homeserver.events.room_version import EventFormat, RoomVersion
from homeserver.matrix import base64, canonical_json
from homeserver.matrix.ids import EventId, RoomId

_NOT_HASHED: Final = frozenset({"unsigned", "signatures", "hashes"})
_NOT_REFERENCED: Final = ("unsigned", "signatures")


def content_hash(fields: Mapping[str, Any]) -> str:
    """The SHA-256 of the event without `unsigned`, `signatures` and `hashes`: what `hashes.sha256` has to be.

    Raises:
        ValueError: the event cannot be written as JSON.
    """
    covered = {key: value for key, value in fields.items() if key not in _NOT_HASHED}
    return base64.encode(hashlib.sha256(canonical_json.encode(covered)).digest())


def signed_bytes(fields: Mapping[str, Any], version: RoomVersion) -> bytes:
    """What the event's signatures sign, and what its reference hash is taken of: its redacted form in canonical JSON.

    spec: server-server-api/#signing-events. Raises `ValueError` if it cannot be written as JSON.
    """
    redacted = redact(fields, version)
    for key in _NOT_REFERENCED:
        redacted.pop(key, None)
    return encode_for(version)(redacted)


def encode_for(version: RoomVersion) -> Callable[[Any], bytes]:
    """How events of a version are written; where they cannot have floats, nobody has to look for some."""
    return canonical_json.encode_strict if version.strict_canonical_json else canonical_json.encode


def reference_hash(fields: Mapping[str, Any], version: RoomVersion) -> bytes:
    """The 32 bytes by which others refer to the event."""
    return hashlib.sha256(signed_bytes(fields, version)).digest()


def event_id_of(fields: Mapping[str, Any], version: RoomVersion) -> EventId:
    """The event's id: written in it (versions 1 and 2, `KeyError` if not), or its reference hash."""
    if not version.hash_ids:
        return EventId(fields["event_id"])
    return event_id_from_hash(reference_hash(fields, version), version)


def event_id_from_hash(digest: bytes, version: RoomVersion) -> EventId:
    """The id made of a reference hash. spec: rooms/v3/#event-ids, rooms/v4/#event-ids"""
    url_safe = version.event_format is EventFormat.URL_SAFE_HASH_ID
    return EventId("$" + (base64.encode_url_safe(digest) if url_safe else base64.encode(digest)))


def room_id_of_create(event_id: EventId) -> RoomId:
    """The room id that a version 12 create event makes. spec: rooms/v12/#event-format"""
    return RoomId("!" + event_id[1:])
