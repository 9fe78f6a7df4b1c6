"""`Event`: one immutable node of a room's graph. Bytes first: nothing is decoded before somebody asks for it.

A sync, a state resolution or a backfill handles tens of thousands of events and looks inside few of them. So an event
is made from its bytes and the names the database knows anyway; the header is decoded on the first look at it, the
content on the first look at that.

spec: server-server-api/#pdus, rooms/ (event format of each version)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

import msgspec
from typing_extensions import override

from homeserver.events.room_version import RoomVersion
from homeserver.matrix import json
from homeserver.matrix.ids import EventId, RoomId, UserId

StateKey = tuple[str, str]
"""(type, state_key): the key of room state."""


@final
class Event:
    """An event as this server knows it. Never mutated; `with_…` style changes build a new one.

    Built by `parse.parse_event` (from bytes that came from outside), `parse.event_from_storage` (from our own) and
    `builder.build_event` (new ones), never by hand elsewhere.
    """

    __slots__ = (
        "pdu",
        "event_id",
        "room_id",
        "room_version",
        # decoded together on the first look at one of them
        "type",
        "state_key",
        "sender",
        "origin_server_ts",
        "depth",
        "prev_event_ids",
        "auth_event_ids",
        "key",
        "content_json",
        # decoded each on the first look at it
        "content",
        "fields",
    )

    pdu: bytes
    """Canonical JSON of the whole federation form, hashes and signatures included, without `unsigned`."""
    event_id: EventId
    room_id: RoomId
    """For a version 12 create event: derived from its own id."""
    room_version: RoomVersion
    type: str
    state_key: str | None
    """None for message events; "" is a state key."""
    sender: UserId
    origin_server_ts: int
    """Unix milliseconds by the sender's clock; not to be trusted."""
    depth: int
    prev_event_ids: tuple[EventId, ...]
    auth_event_ids: tuple[EventId, ...]
    """As written in the event (for version 12 without the create event, which is implied)."""
    key: StateKey | None
    """(type, state_key) for state events, else None."""
    content_json: bytes
    """The content's own canonical bytes."""
    content: Mapping[str, Any]
    """Read-only by contract."""
    fields: Mapping[str, Any]
    """All of `pdu`, decoded. Read-only by contract."""

    def __init__(
        self,
        *,
        pdu: bytes,
        event_id: EventId,
        room_id: RoomId,
        room_version: RoomVersion,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        self.pdu = pdu
        self.event_id = event_id
        self.room_id = room_id
        self.room_version = room_version
        if fields is not None:
            self.fields = fields
            self.content = fields["content"]

    if (
        not TYPE_CHECKING
    ):  # Python calls this for slots that are still empty; the type checker sees the annotations

        def __getattr__(self, name: str) -> Any:
            if (
                name in _KEYS and b'"state_key":' not in self.pdu
            ):  # most events: nothing else need be decoded to say so
                self.state_key = self.key = None
            elif name in _HEADER:
                self._decode_header()
            elif name == "content":
                self.content = json.loads(self.content_json)
            elif name == "fields":
                self.fields = json.loads(self.pdu)
            else:
                raise AttributeError(name)
            return getattr(self, name)

    def _decode_header(self) -> None:
        header: _Header | _HeaderV1
        if self.room_version.hash_ids:
            header = plain = _decode(self.pdu)
            self.prev_event_ids, self.auth_event_ids = plain.prev_events, plain.auth_events
        else:
            header = pairs = _decode_v1(self.pdu)
            self.prev_event_ids = tuple(ref[0] for ref in pairs.prev_events)
            self.auth_event_ids = tuple(ref[0] for ref in pairs.auth_events)
        self.type = header.type
        self.state_key = header.state_key
        self.sender = header.sender
        self.origin_server_ts = header.origin_server_ts
        self.depth = header.depth
        self.content_json = bytes(header.content)
        self.key = None if header.state_key is None else (header.type, header.state_key)

    @property
    def is_state(self) -> bool:
        return self.state_key is not None

    @property
    def membership(self) -> str | None:
        """`content.membership` of an m.room.member event if it is a string, else None."""
        if self.type != "m.room.member":
            return None
        value = self.content.get("membership")
        return value if isinstance(value, str) else None

    @property
    def redacts(self) -> EventId | None:
        """The id this m.room.redaction points at, wherever its version writes it; None if absent or not a string."""
        if self.type != "m.room.redaction":
            return None
        source = self.content if self.room_version.redacts_in_content else self.fields
        value = source.get("redacts")
        return EventId(value) if isinstance(value, str) else None

    @override
    def __repr__(self) -> str:
        return (
            f"<Event {self.event_id} {self.type}{'' if self.state_key is None else f' [{self.state_key}]'}>"
        )

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and other.event_id == self.event_id

    @override
    def __hash__(self) -> int:
        return hash(self.event_id)


class _Common(msgspec.Struct, gc=False):
    type: str
    sender: UserId
    origin_server_ts: int
    depth: int
    content: msgspec.Raw
    state_key: str | None = None


class _Header(_Common, gc=False, kw_only=True):
    prev_events: tuple[EventId, ...]
    auth_events: tuple[EventId, ...]


class _HeaderV1(_Common, gc=False, kw_only=True):
    prev_events: list[tuple[EventId, msgspec.Raw]]  # with {"sha256": reference hash}
    auth_events: list[tuple[EventId, msgspec.Raw]]


_decode = msgspec.json.Decoder(_Header).decode
_decode_v1 = msgspec.json.Decoder(_HeaderV1).decode

_KEYS: Final = frozenset({"state_key", "key"})
_HEADER: Final = frozenset(
    {
        "type",
        "state_key",
        "sender",
        "origin_server_ts",
        "depth",
        "prev_event_ids",
        "auth_event_ids",
        "key",
        "content_json",
    }
)
