"""Filters of clients: which events, rooms and fields they want.

spec: client-server-api/#filtering (FILT-01 to FILT-03)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec

from homeserver.events.event import Event
from homeserver.matrix.errors import BadJson
from homeserver.matrix.glob import StarGlob

MAX_FILTER_BYTES = 64 * 1024
MAX_STARS = 64
"""In the patterns of one list of types: a page of a thousand events may have as many types, which are all tried in one turn."""
MAX_KNOWN = 1024
"""Types of which a filter remembers whether it wants them."""
MAX_FIELDS = 256
"""Of `event_fields`."""
MAX_PROFILE_FIELDS = 100
MAX_LIMIT = 1000
T = TypeVar("T")


class _Types:
    """A list of types: exact ones are looked up, patterns tried one after the other, and the answer is remembered."""

    __slots__ = ("_exact", "_globs", "_known")

    def __init__(self, types: Iterable[str]) -> None:
        self._exact = frozenset(types)
        self._globs = [StarGlob(pattern) for pattern in self._exact if "*" in pattern]
        self._known: dict[str, bool] = {}

    def __contains__(self, event_type: str) -> bool:
        found = self._known.get(event_type)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            fits = event_type in self._exact or any(each.matches(event_type) for each in self._globs)
            found = self._known[event_type] = fits
        return found


class EventFilter(msgspec.Struct, dict=True):
    """EventFilter of the specification: `not_*` beats the positive list, an empty list matches nothing.

    What is asked for every event is laid out for it once; patterns are bounded in number (`MAX_STARS`), and read by the one
    matcher for all of them (`matrix/glob.py`).
    """

    limit: Annotated[int, msgspec.Meta(ge=0)] | None = None
    types: list[str] | None = None
    not_types: list[str] = []
    senders: list[str] | None = None
    not_senders: list[str] = []

    def __post_init__(self) -> None:
        for types in (self.types or (), self.not_types):
            if sum(pattern.count("*") for pattern in types) > MAX_STARS:
                raise ValueError(f"more than {MAX_STARS} stars in a list of types")

    def matches_parts(self, event_type: str, sender: str | None) -> bool:
        """By type and sender alone; `sender` None where there is none (account data)."""
        if self.types is not None and event_type not in self._types:
            return False
        if self.not_types and event_type in self._not_types:
            return False
        if sender is None:
            return True
        if self.senders is not None and sender not in self._senders:
            return False
        return not self.not_senders or sender not in self._not_senders

    @cached_property
    def _types(self) -> _Types:
        return _Types(self.types or ())

    @cached_property
    def _not_types(self) -> _Types:
        return _Types(self.not_types)

    @cached_property
    def _senders(self) -> frozenset[str]:
        return frozenset(self.senders or ())

    @cached_property
    def _not_senders(self) -> frozenset[str]:
        return frozenset(self.not_senders)


class _RoomChoice:
    """Which rooms are wanted: `rooms` of the list, if there is one, without `not_rooms`."""

    if TYPE_CHECKING:
        rooms: list[str] | None
        not_rooms: list[str]

    def wants_room(self, room_id: str) -> bool:
        """Whether the client wants anything of this room."""
        if self.not_rooms and room_id in self._not_rooms:
            return False
        return self.rooms is None or room_id in self._rooms

    @cached_property
    def chooses_rooms(self) -> bool:
        """Whether `wants_room` can ever say no."""
        return self.rooms is not None or bool(self.not_rooms)

    @cached_property
    def _rooms(self) -> frozenset[str]:
        return frozenset(self.rooms or ())

    @cached_property
    def _not_rooms(self) -> frozenset[str]:
        return frozenset(self.not_rooms)


class RoomEventFilter(EventFilter, _RoomChoice):
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


class RoomFilter(msgspec.Struct, _RoomChoice, dict=True):
    """RoomFilter: what of rooms; `rooms` and `not_rooms` apply before the filters of the sections."""

    rooms: list[str] | None = None
    not_rooms: list[str] = []
    include_leave: bool = False
    state: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)
    timeline: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)
    ephemeral: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)
    account_data: RoomEventFilter = msgspec.field(default_factory=RoomEventFilter)

    @cached_property
    def chooses_sections(self) -> bool:
        """Whether ephemeral events or account data are wanted of some rooms only."""
        return self.ephemeral.chooses_rooms or self.account_data.chooses_rooms


class ProfileFieldFilter(msgspec.Struct):
    """Which fields of profiles are told in `/sync`: none, if not asked for.

    Source: MSC4429, "Filtering profile updates by field ID".
    """

    ids: list[str] = []

    def __post_init__(self) -> None:
        if len(self.ids) > MAX_PROFILE_FIELDS:
            raise ValueError(f"more than {MAX_PROFILE_FIELDS} ids of profile_fields")


class Filter(msgspec.Struct, dict=True):
    """A whole filter, as for `/sync`. None of them changes once it was read."""

    event_fields: list[str] | None = None
    event_format: Literal["client", "federation"] = "client"
    presence: EventFilter = msgspec.field(default_factory=EventFilter)
    account_data: EventFilter = msgspec.field(default_factory=EventFilter)
    room: RoomFilter = msgspec.field(default_factory=RoomFilter)
    profile_fields: ProfileFieldFilter | None = msgspec.field(
        default=None, name="org.matrix.msc4429.profile_fields"
    )

    def __post_init__(self) -> None:
        if self.event_fields is not None and len(self.event_fields) > MAX_FIELDS:
            raise ValueError(f"more than {MAX_FIELDS} event_fields")

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
