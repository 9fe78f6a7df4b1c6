"""Rooms of a hierarchy, and who looks at it.

spec: client-server-api/#spaces
"""

from __future__ import annotations

import msgspec

from homeserver.directory.types import RoomSummary
from homeserver.matrix.ids import RoomId, ServerName, UserId

SPACE = "m.space"
CHILD = "m.space.child"


class ChildState(msgspec.Struct, frozen=True, gc=False):
    """An `m.space.child` event as stripped state, with when it was sent. spec: op:getSpaceHierarchy"""

    type: str
    state_key: RoomId
    content: msgspec.Raw
    sender: UserId
    origin_server_ts: int


class Child(msgspec.Struct, frozen=True, gc=False):
    """A room that a space names."""

    room_id: RoomId
    via: tuple[ServerName, ...]
    suggested: bool
    order: str
    """As the event says, where it is valid; '' if not."""
    state: ChildState

    @property
    def place(self) -> tuple[bool, str, int, str]:
        """What children of one space are sorted by. spec: #ordering-of-children-within-a-space (SPACE-03)"""
        return (not self.order, self.order, self.state.origin_server_ts, self.room_id)


class SpaceRoom(RoomSummary, kw_only=True, omit_defaults=True):
    """A room of a hierarchy."""

    children_state: list[ChildState]
    """Empty for what is no space."""


class Branch(msgspec.Struct, frozen=True):
    """A room of a hierarchy and the rooms under it, as one server knows them. spec: server-server-api/#spaces"""

    room: SpaceRoom
    children: list[SpaceRoom]
    inaccessible_children: list[RoomId]
    """Rooms that whoever asked can neither join nor read; nobody need ask for them again."""


class Options(msgspec.Struct, frozen=True, array_like=True):
    """How a tree is walked: the same from the first page to the last."""

    suggested_only: bool
    max_depth: int
