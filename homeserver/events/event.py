"""`Event`: one immutable node of a room's graph. Bytes first; what the server needs often is parsed once, the rest when asked.

spec: server-server-api/#pdus, rooms/ (event format of each version)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homeserver.events.room_version import RoomVersion
from homeserver.matrix.ids import EventId, RoomId, UserId

StateKey = tuple[str, str]
"""(type, state_key): the key of room state."""


class Event:
    """An event as this server knows it. Never mutated; `with_…` style changes build a new one.

    Built by `parse.parse_event` (from bytes that came from outside or from storage) and `builder.build_event` (new ones),
    never by hand elsewhere.
    """

    __slots__ = (
        "pdu",
        "fields",
        "event_id",
        "room_id",
        "room_version",
        "type",
        "state_key",
        "sender",
        "origin_server_ts",
        "depth",
        "prev_event_ids",
        "auth_event_ids",
        "content",
        "key",
    )

    pdu: bytes
    """Canonical JSON of the whole federation form, hashes and signatures included, without `unsigned`."""
    fields: Mapping[str, Any]
    """The same, decoded. Read-only by contract."""
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
    content: Mapping[str, Any]
    key: StateKey | None
    """(type, state_key) for state events, else None."""

    def __init__(
        self, *, pdu: bytes, fields: Mapping[str, Any], event_id: EventId, room_id: RoomId, room_version: RoomVersion
    ) -> None:
        self.pdu = pdu
        self.fields = fields
        self.event_id = event_id
        self.room_id = room_id
        self.room_version = room_version
        self.type = fields["type"]
        self.state_key = fields.get("state_key")
        self.sender = fields["sender"]
        self.origin_server_ts = fields["origin_server_ts"]
        self.depth = fields["depth"]
        self.content = fields["content"]
        prev, auth = fields["prev_events"], fields["auth_events"]
        if room_version.hash_ids:
            self.prev_event_ids, self.auth_event_ids = tuple(prev), tuple(auth)
        else:  # [[event_id, {"sha256": …}], …]
            self.prev_event_ids = tuple(p[0] for p in prev)
            self.auth_event_ids = tuple(a[0] for a in auth)
        self.key = None if self.state_key is None else (self.type, self.state_key)

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

    def __repr__(self) -> str:
        return f"<Event {self.event_id} {self.type}{'' if self.state_key is None else f' [{self.state_key}]'}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Event) and other.event_id == self.event_id

    def __hash__(self) -> int:
        return hash(self.event_id)
