"""Filters of clients: which events, rooms and fields they want.

spec: client-server-api/#filtering (FILT-01 to FILT-03)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from homeserver.events.event import Event
from homeserver.matrix.errors import BadJson

MAX_FILTER_BYTES = 64 * 1024
MAX_LIMIT = 1000
T = TypeVar("T")


class EventFilter(msgspec.Struct, dict=True):
    """EventFilter of the specification: `not_*` beats the positive list, an empty list matches nothing."""

    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    types: list[str] | None = None
    not_types: list[str] = []
    senders: list[str] | None = None
    not_senders: list[str] = []

    def matches_parts(self, event_type: str, sender: str | None) -> bool:
        """By type and sender alone; `sender` None where there is none (account data)."""
        if self.types is not None and not _any_glob(tuple(self.types), event_type):
            return False
        if self.not_types and _any_glob(tuple(self.not_types), event_type):
            return False
        if sender is None:
            return True
        if self.senders is not None and sender not in self.senders:
            return False
        return sender not in self.not_senders


class RoomEventFilter(EventFilter):
    """RoomEventFilter: also by room, by `url`, and how members are loaded."""

    rooms: list[str] | None = None
    not_rooms: list[str] = []
    contains_url: bool | None = None
    lazy_load_members: bool = False
    include_redundant_members: bool = False
    unread_thread_notifications: bool = False

    def matches(self, event: Event) -> bool:
        """Whether the client wants this event."""
        if not self.matches_parts(event.type, event.sender) or not self.wants_room(event.room_id):
            return False
        if self.contains_url is None:
            return True
        return isinstance(event.content.get("url"), str) == self.contains_url

    def wants_room(self, room_id: str) -> bool:
        """Whether the client wants events of this room."""
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)

    @cached_property
    def selective(self) -> bool:
        """Whether `matches` can ever say no."""
        return bool(
            self.types is not None
            or self.not_types
            or self.senders is not None
            or self.not_senders
            or self.contains_url is not None
            or self.chooses_rooms
        )

    @cached_property
    def chooses_rooms(self) -> bool:
        """Whether `wants_room` can ever say no."""
        return self.rooms is not None or bool(self.not_rooms)


class RoomFilter(msgspec.Struct, dict=True):
    """RoomFilter: what of rooms; `rooms` and `not_rooms` apply before the filters of the sections."""

    rooms: list[str] | None = None
    not_rooms: list[str] = []
    include_leave: bool = False
    state: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)
    timeline: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)
    ephemeral: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)
    account_data: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)

    def wants_room(self, room_id: str) -> bool:
        return room_id not in self.not_rooms and (self.rooms is None or room_id in self.rooms)

    @cached_property
    def chooses_sections(self) -> bool:
        """Whether ephemeral events or account data are wanted of some rooms only."""
        return self.ephemeral.chooses_rooms or self.account_data.chooses_rooms


class Filter(msgspec.Struct, dict=True):
    """A whole filter, as for `/sync`. None of them changes once it was read."""

    event_fields: list[str] | None = None
    event_format: Literal["client", "federation"] = "client"
    presence: EventFilter = msgspec.field(default_factory=EventFilter)
    account_data: EventFilter = msgspec.field(default_factory=EventFilter)
    room: RoomFilter = msgspec.field(default_factory=RoomFilter)

    @cached_property
    def plain(self) -> bool:
        """Whether it asks for rooms as most do, so that many can be given the same."""
        return (
            self.event_fields is None
            and self.event_format == "client"
            and not self.room.timeline.selective
            and not self.room.state.selective
        )


EVERYTHING = Filter()


def read_filter(data: bytes | Mapping[str, Any], where: str = "filter") -> Filter:
    """A filter from JSON. Raises `BadJson` with the place of the mistake."""
    return _read(data, Filter, where)


def read_room_event_filter(data: bytes, where: str = "filter") -> RoomEventFilter:
    """The filter of `/messages`, `/context`, `/search`. Raises `BadJson`."""
    return _read(data, RoomEventFilter, where)


def _read(data: bytes | Mapping[str, Any], kind: type[T], where: str) -> T:
    try:
        if isinstance(data, bytes):
            return msgspec.json.decode(data, type=kind)
        return msgspec.convert(data, kind)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise BadJson(f"{where}: {error}") from error


@lru_cache(maxsize=4096)
def _any_glob(patterns: tuple[str, ...], value: str) -> bool:
    return any(value == pattern or _glob(pattern).fullmatch(value) is not None for pattern in patterns)


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    """`*` matches anything; nothing else is special."""
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
