"""A room in the list, and who asks for which of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from homeserver.matrix.ids import RoomId, UserId


class PublishedRoom(msgspec.Struct, omit_defaults=True):
    """spec: definitions/public_rooms_chunk."""

    room_id: RoomId
    num_joined_members: int
    world_readable: bool
    guest_can_join: bool
    join_rule: str
    name: str | None = None
    topic: str | None = None
    avatar_url: str | None = None
    canonical_alias: str | None = None
    room_type: str | None = None


class RoomSummary(PublishedRoom, omit_defaults=True):
    """spec: definitions/room_summary, with the reader's membership."""

    allowed_room_ids: list[RoomId] = []
    encryption: str | None = None
    room_version: str | None = None
    membership: str | None = None


class Wanted(NamedTuple):
    """Which rooms of the list."""

    words: Sequence[str] = ()
    """Folded; each is somewhere in the name, topic or alias. None: all rooms."""
    types: frozenset[str | None] | None = None
    """Types of rooms, None among them for rooms without one; None: all."""
    network: str | None = ""
    """Of a bridge, '' for this server's own list; None: all."""


class Place(NamedTuple):
    """Where in the list a page begins."""

    start: int = 0
    """How many come before it."""
    order: str | None = None
    """Name of the order of rooms that it is counted in; None: the present one."""


class Page(NamedTuple):
    """A page of the list."""

    rooms: list[PublishedRoom]
    place: Place
    total: int
    end: int
    """How many of the order come up to the end of it."""


class FoundUser(msgspec.Struct, omit_defaults=True):
    """spec: op:searchUserDirectory."""

    user_id: UserId
    display_name: str | None = None
    avatar_url: str | None = None
