"""From bytes to `Event`: from outside with every check of the format, from our own storage with none.

What is refused here is no event at all: it is dropped, not rejected.
spec: server-server-api/#checks-performed-on-receipt-of-a-pdu step 1 (CHECKLIST EVT-01 to EVT-05, EVT-24, API-23)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from homeserver.events.event import Event
from homeserver.events.hashing import event_id_of, room_id_of_create
from homeserver.events.room_version import RoomVersion
from homeserver.matrix import canonical_json, ids, json
from homeserver.matrix.errors import BadJson
from homeserver.matrix.ids import EventId, RoomId

MAX_EVENT_BYTES: Final = 65_536
"""spec: client-server-api/#size-limits"""
MAX_AUTH_EVENTS: Final = 10
MAX_PREV_EVENTS: Final = 20
MAX_KEY_BYTES: Final = 255
"""Of `type`, `state_key`, `sender`, `room_id` and `event_id`."""

_INT64: Final = 2**63 - 1


class EventFormatError(ValueError):
    """What was sent is no event of this room version. `path` names the place, `problem` says what is wrong there."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path
        self.problem = problem


def parse_event(pdu: bytes | Mapping[str, Any], room_version: RoomVersion, *, bounded: bool = True) -> Event:
    """Check that what another server sent has the format of its room version, and name it.

    Hashes and signatures are only checked to be there; whether they are right is asked elsewhere. `unsigned` is
    dropped: it is nobody's word.

    Args:
        pdu: The federation form, as JSON text or decoded by `json.loads`.
        room_version: The version of the room it claims to belong to.
        bounded: Whether more than 10 auth events or 20 previous events are refused; not so in backfill.

    Raises:
        EventFormatError: with the path of the first mistake.
    """
    fields = _decode(pdu)
    fields.pop("unsigned", None)
    canonical = _encode_checked(fields) if room_version.strict_canonical_json else _encode(fields)
    if len(canonical) > MAX_EVENT_BYTES:
        raise EventFormatError("", f"larger than {MAX_EVENT_BYTES} bytes")
    _check_shape(fields, room_version)
    _check_ids(fields, room_version)
    if bounded:
        _check_bounds(fields)
    event_id = event_id_of(fields, room_version)
    return Event(
        pdu=canonical,
        fields=fields,
        event_id=event_id,
        room_id=RoomId(fields["room_id"]) if "room_id" in fields else room_id_of_create(event_id),
        room_version=room_version,
    )


def event_from_storage(pdu: bytes, event_id: EventId, room_id: RoomId, room_version: RoomVersion) -> Event:
    """An event this server has checked before: nothing is checked, and nothing decoded before it is asked for."""
    return Event(pdu=pdu, event_id=event_id, room_id=room_id, room_version=room_version)


# --- the shape: data/api/server-server/definitions/pdu_v*.yaml -----------------------------------------------------

_Int64 = Annotated[int, msgspec.Meta(ge=-_INT64 - 1, le=_INT64)]
_Text = str | msgspec.UnsetType


class _Hashes(msgspec.Struct):
    sha256: str


class _Pdu(msgspec.Struct, kw_only=True):
    type: str
    sender: str
    origin_server_ts: _Int64
    depth: Annotated[
        int, msgspec.Meta(ge=0, le=_INT64)
    ]  # from version 6 on canonical JSON sets the lower limit
    content: dict[str, Any]
    hashes: _Hashes
    signatures: dict[str, dict[str, str]]
    state_key: _Text = msgspec.UNSET


class _PduV1(_Pdu, kw_only=True):
    event_id: str
    room_id: str
    redacts: _Text = msgspec.UNSET
    prev_events: list[tuple[str, dict[str, str]]]
    auth_events: list[tuple[str, dict[str, str]]]


class _PduV3(_Pdu, kw_only=True):
    room_id: str
    redacts: _Text = msgspec.UNSET
    prev_events: list[str]
    auth_events: list[str]


class _PduV11(_Pdu, kw_only=True):
    room_id: str
    prev_events: list[str]
    auth_events: list[str]


class _CreateV12(_Pdu, kw_only=True):
    # The id of a room is the hash of the one event at its root: there is no create event beside that.
    state_key: Literal[""]
    room_id: msgspec.UnsetType = msgspec.UNSET
    prev_events: list[str]
    auth_events: list[str]


def _shape_of(fields: Mapping[str, Any], version: RoomVersion) -> type[_Pdu]:
    if not version.hash_ids:
        return _PduV1
    if not version.redacts_in_content:
        return _PduV3
    # spec: rooms/v12/#event-format: the create event makes the room id and cannot carry it
    if version.room_id_is_create_hash and fields.get("type") == "m.room.create":
        return _CreateV12
    return _PduV11


def _decode(pdu: bytes | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(pdu, Mapping):
        return dict(pdu)
    try:
        fields = json.loads(pdu)
    except ValueError as error:
        raise EventFormatError("", f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise EventFormatError("", "not an object")
    return fields


def _check_shape(fields: dict[str, Any], version: RoomVersion) -> None:
    try:
        msgspec.convert(fields, _shape_of(fields, version))
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        if path:
            raise EventFormatError(path.removesuffix("`"), problem) from None
        raise EventFormatError("", problem) from None


def _encode_checked(fields: dict[str, Any]) -> bytes:
    try:
        # spec: rooms/v6/#canonical-json
        return canonical_json.encode_checked(fields)
    except BadJson as error:
        path, _, problem = error.error.rpartition(": ")
        raise EventFormatError(path, problem) from None


def _encode(fields: dict[str, Any]) -> bytes:
    try:
        canonical = canonical_json.encode(fields)
    except ValueError as error:
        raise EventFormatError("", str(error)) from None
    if canonical_json.nested_deeper(canonical, canonical_json.MAX_DEPTH):
        raise EventFormatError("", f"nested deeper than {canonical_json.MAX_DEPTH} levels")
    return canonical


def _check_ids(fields: dict[str, Any], version: RoomVersion) -> None:
    # spec: appendices/#user-identifiers: historical local parts are accepted in events
    if not ids.is_user_id(fields["sender"]):
        raise EventFormatError("sender", "not a user ID")
    if "room_id" in fields and not ids.is_room_id(fields["room_id"]):
        raise EventFormatError("room_id", "not a room ID")
    for name in ("type", "state_key"):
        value = fields.get(name, "")
        if len(value) > MAX_KEY_BYTES or (not version.lengths_in_characters and ids.too_long(value)):
            raise EventFormatError(name, f"longer than {MAX_KEY_BYTES} bytes")
    if not version.hash_ids and not ids.is_event_id_with_domain(fields["event_id"]):
        raise EventFormatError("event_id", "not an event ID with a server name")
    for name in ("prev_events", "auth_events"):
        for index, ref in enumerate(fields[name]):
            if not ids.is_event_id(ref if version.hash_ids else ref[0]):
                raise EventFormatError(f"{name}[{index}]", "not an event ID")


def _check_bounds(fields: dict[str, Any]) -> None:
    for name, limit in (("auth_events", MAX_AUTH_EVENTS), ("prev_events", MAX_PREV_EVENTS)):
        if len(fields[name]) > limit:
            raise EventFormatError(name, f"more than {limit}")
