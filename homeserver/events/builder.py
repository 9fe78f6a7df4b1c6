"""Builds this server's own events: hashed, signed, named, ready to be appended and sent.

The content is written as JSON once; everything else is spliced around it.

spec: server-server-api/#signing-events, client-server-api/#size-limits (CHECKLIST EVT-01, EVT-02, EVT-04, API-23)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from homeserver.events.event import Event
from homeserver.events.hashing import event_id_from_hash, reference_hash, room_id_of_create, signed_bytes
from homeserver.events.parse import MAX_EVENT_BYTES, MAX_KEY_BYTES
from homeserver.events.room_version import RoomVersion
from homeserver.events.sticky import KEY as STICKY
from homeserver.matrix import base64, canonical_json, ids
from homeserver.matrix.canonical_json import encode_strict
from homeserver.matrix.errors import BadJson, TooLarge
from homeserver.matrix.ids import EventId, RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey

Reference = EventId | tuple[EventId, str]
"""How an event names another: by id; in versions 1 and 2 (id, reference hash in unpadded Base64): `reference_to`."""


@dataclass(frozen=True, slots=True)
class EventDraft:
    """What somebody wants to say, before it has a place in the graph."""

    type: str
    state_key: str | None
    """None for a message event."""
    sender: UserId
    content: Mapping[str, Any]
    redacts: EventId | None = None
    """For `m.room.redaction`: the target. `build_event` writes it where the room version wants it."""
    sticky_ms: int | None = None
    """For how many ms the event is sticky; None: it is not. Of a message event. spec: MSC4354"""


def reference_to(event: Event) -> Reference:
    """What `prev` and `auth` of a later event in the same room have to hold to name this one."""
    if event.room_version.hash_ids:
        return event.event_id
    return event.event_id, base64.encode(reference_hash(event.fields, event.room_version))


def next_depth(parents: Iterable[int], version: RoomVersion) -> int:
    """The depth of an event with parents of these depths. spec: data pdu_v*.yaml `depth` (EVT-04)"""
    return min(max(parents, default=0) + 1, version.max_depth)


def build_event(  # noqa: PLR0913  # one argument per thing an event consists of; all but the first by name
    draft: EventDraft,
    *,
    room_id: RoomId | None,
    room_version: RoomVersion,
    prev: Sequence[Reference],
    auth: Sequence[Reference],
    depth: int,
    origin_server_ts: int,
    server_name: ServerName,
    signing_key: SigningKey,
) -> Event:
    """Make a draft an event.

    Args:
        draft: What to say; its content is not copied and must not change afterwards.
        room_id: None exactly for a version 12 create event, which makes its own.
        room_version: The room's version.
        prev: The forward extremities it follows, see `reference_to`.
        auth: The events that allow it (`auth_selection`).
        depth: See `next_depth`.
        origin_server_ts: Now, in milliseconds.
        server_name: Who signs.
        signing_key: With what.

    Raises:
        BadJson: content that canonical JSON cannot express, with the place.
        TooLarge: more than 65536 bytes in all, or more than 255 in an identifier, the type or the state key.
    """
    content, redacts = _place_redacts(draft, room_version)
    content_json = _encode_content(content, room_version)
    fields: dict[str, Any] = {
        "auth_events": _references(auth, room_version),
        "content": msgspec.Raw(content_json),
        "depth": depth,
        "origin_server_ts": origin_server_ts,
        "prev_events": _references(prev, room_version),
        "sender": draft.sender,
        "type": draft.type,
    }
    optional = {"redacts": redacts, "room_id": room_id, "state_key": draft.state_key}
    fields.update((name, value) for name, value in optional.items() if value is not None)
    if draft.sticky_ms is not None:
        fields[STICKY] = {"duration_ms": draft.sticky_ms}
    _check_lengths(fields)
    if not room_version.hash_ids:
        # The server chooses the id: here by what the event says, so that no chance is needed. spec: rooms/v1/#event-ids
        fields["event_id"] = f"${base64.encode_url_safe(_sha256_of(fields))}:{server_name}"

    fields["hashes"] = {"sha256": base64.encode(_sha256_of(fields))}
    signed = signed_bytes({**fields, "content": content}, room_version)
    fields["signatures"] = {server_name: {signing_key.key_id: signing_key.signature_of(signed)}}
    pdu = encode_strict(fields)
    if len(pdu) > MAX_EVENT_BYTES:
        raise TooLarge(f"The event has {len(pdu)} bytes; at most {MAX_EVENT_BYTES} are allowed")
    event_id = fields.get("event_id") or event_id_from_hash(hashlib.sha256(signed).digest(), room_version)
    event = Event(
        pdu=pdu,
        event_id=event_id,
        room_id=room_id or room_id_of_create(event_id),
        room_version=room_version,
    )
    event.content = content
    return event


def _place_redacts(draft: EventDraft, version: RoomVersion) -> tuple[Mapping[str, Any], EventId | None]:
    """The content, and the top-level `redacts`, with the target of a redaction where the version has it.

    Clients write it into the content in every version. spec: rooms/v11/#moving-the-redacts-property-of-mroomredaction-events
    """
    content = draft.content
    if draft.type != "m.room.redaction":
        return content, None
    target = draft.redacts or content.get("redacts")
    if not isinstance(target, str):
        return content, None
    if version.redacts_in_content:
        return {**content, "redacts": target}, None
    return {key: value for key, value in content.items() if key != "redacts"}, EventId(target)


def _encode_content(content: Mapping[str, Any], version: RoomVersion) -> bytes:
    if version.strict_canonical_json:
        # spec: rooms/v6/#canonical-json (API-22)
        return canonical_json.encode_checked(content, where="content", max_depth=canonical_json.MAX_DEPTH - 1)
    try:
        encoded = canonical_json.encode(content)
    except ValueError as error:
        raise BadJson(f"content: {error}") from None
    if canonical_json.nested_deeper(encoded, canonical_json.MAX_DEPTH - 1):
        raise BadJson(f"content: nested deeper than {canonical_json.MAX_DEPTH - 1} levels")
    return encoded


def _references(references: Sequence[Reference], version: RoomVersion) -> list[Any]:
    if version.hash_ids:
        return [ref if isinstance(ref, str) else ref[0] for ref in references]
    if any(isinstance(ref, str) for ref in references):
        raise ValueError("room versions 1 and 2 name events by id and hash: use reference_to")
    return [[event_id, {"sha256": sha256}] for event_id, sha256 in references]


def _check_lengths(fields: Mapping[str, Any]) -> None:
    # spec: client-server-api/#size-limits
    for name in ("type", "state_key", "sender", "room_id"):
        if ids.too_long(fields.get(name, "")):
            raise TooLarge(f"{name}: longer than {MAX_KEY_BYTES} bytes")


def _sha256_of(fields: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(encode_strict(fields)).digest()
