"""Events as clients see them: spliced out of the stored bytes, the content never decoded.

The form here is that of `/sync` room sections; `with_room_id` adds what other endpoints show too, `with_unsigned` what
depends on the reader. spec: client-server-api/#room-event-format (CHECKLIST FILT-06, FILT-08, FILT-09, FILT-10, RED-05)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

import msgspec

from homeserver.events.event import Event
from homeserver.events.sticky import duration_of, may_be_sticky
from homeserver.matrix import json
from homeserver.matrix.ids import EventId, RoomId, UserId, is_user_id

MAX_STRIPPED: Final = 100
"""Entries of stripped state that are looked at."""


class _ClientEvent(msgspec.Struct, gc=False, omit_defaults=True):
    content: msgspec.Raw
    event_id: EventId
    origin_server_ts: int
    sender: UserId
    type: str
    state_key: str | msgspec.UnsetType = msgspec.UNSET
    redacts: EventId | msgspec.UnsetType = msgspec.UNSET
    msc4354_sticky: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class _Stripped(msgspec.Struct, gc=False):
    content: msgspec.Raw
    sender: UserId
    state_key: str
    type: str


_encode = msgspec.json.Encoder().encode


def client_event_bytes(event: Event) -> bytes:
    """The client form without `room_id` and `unsigned`; nothing of the federation form shines through."""
    content = event.content_json
    redacts: EventId | msgspec.UnsetType = msgspec.UNSET
    if event.type == "m.room.redaction":
        content, redacts = _redaction(event)
    return _encode(
        _ClientEvent(
            msgspec.Raw(content),
            event.event_id,
            event.origin_server_ts,
            event.sender,
            event.type,
            msgspec.UNSET if event.state_key is None else event.state_key,
            redacts,
            _sticky(event),
        )
    )


def stripped(event: Event) -> bytes:
    """Stripped state: `content`, `sender`, `state_key`, `type` alone. Of a state event.

    spec: client-server-api/#stripped-state
    """
    return _encode(
        _Stripped(msgspec.Raw(event.content_json), event.sender, event.state_key or "", event.type)
    )


def stripped_from_elsewhere(entries: Iterable[object]) -> list[bytes]:
    """`invite_room_state` or `knock_room_state` of another server as clients may see it (FILT-09).

    Servers send whole events, or stripped ones, or anything: what has the four properties of stripped state is reduced to
    them, the rest is left out. At most `MAX_STRIPPED`; of several entries for one key the first counts.
    """
    found: dict[tuple[str, str], bytes] = {}
    for entry in islice(entries, MAX_STRIPPED):
        if not isinstance(entry, Mapping):
            continue
        kind, key = entry.get("type"), entry.get("state_key")
        sender, content = entry.get("sender"), entry.get("content")
        if not (isinstance(kind, str) and isinstance(key, str) and isinstance(content, Mapping)):
            continue
        if isinstance(sender, str) and is_user_id(sender):
            reduced = {"content": content, "sender": sender, "state_key": key, "type": kind}
            found.setdefault((kind, key), json.dumps(reduced))
    return list(found.values())


def room_member(room_id: RoomId) -> bytes:
    """The member `room_id`, with a leading comma: everywhere but inside the room sections of `/sync`."""
    return b',"room_id":' + _encode(room_id)


def with_room_id(event_json: bytes, room_id: RoomId) -> bytes:
    """A client form with its `room_id`: everywhere but inside the room sections of `/sync`."""
    return event_json[:-1] + room_member(room_id) + b"}"


def with_unsigned(event_json: bytes, unsigned: bytes) -> bytes:
    """A client (or federation) form with `unsigned`, which is a JSON object itself."""
    return json.object_with(event_json, b'"unsigned":' + unsigned)


def _sticky(event: Event) -> dict[str, int] | msgspec.UnsetType:
    """spec: MSC4354"""
    duration = duration_of(event) if may_be_sticky(event) else None
    return msgspec.UNSET if duration is None else {"duration_ms": duration}


def _redaction(event: Event) -> tuple[bytes, EventId | msgspec.UnsetType]:
    """Content and top-level `redacts`: clients find the target in both places, whatever the version.

    spec: rooms/v11/#moving-the-redacts-property-of-mroomredaction-events
    """
    target = event.redacts
    if target is None:
        return event.content_json, msgspec.UNSET
    if event.room_version.redacts_in_content:
        return event.content_json, target
    return json.dumps({**event.content, "redacts": target}), target
