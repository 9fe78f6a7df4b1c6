"""Rooms of this server as a hierarchy shows them: a summary, and the rooms that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from homeserver.directory.summaries import RoomSummaries
from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import Interning
from homeserver.graph.read.page_size import fitting
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import RoomId
from homeserver.runtime.turns import next_turn, pieces
from homeserver.spaces.children import in_order, read_child
from homeserver.spaces.types import CHILD, SPACE, Child, ChildState, SpaceRoom

CHILDREN_BYTES: Final = 2**20
"""Of the children of one room that are looked at, the first of its order."""
CHILD_BYTES: Final = 250
"""What the event of a child takes besides its content."""
EVENTS_AT_ONCE: Final = 500


class LocalRoom(NamedTuple):
    """A room that is here."""

    room: Room
    shown: SpaceRoom
    children: Sequence[Child]


class LocalRooms:
    """Reads rooms for hierarchies. Keeps nothing in memory."""

    def __init__(
        self, rooms: Rooms, interning: Interning, events: EventCache, summaries: RoomSummaries
    ) -> None:
        self._rooms = rooms
        self._interning = interning
        self._events = events
        self._summaries = summaries

    async def find(self, room_ids: Collection[RoomId], *, suggested_only: bool) -> dict[RoomId, LocalRoom]:
        """Those of the rooms that this server knows, whoever may see them. Few queries for all of them."""
        rooms = await self.load(room_ids)
        if not rooms:
            return {}
        summaries = await self._summaries.describe(list(rooms.values()))
        spaces = [
            room
            for room, summary in zip(rooms.values(), summaries, strict=True)
            if summary.room_type == SPACE
        ]
        children = await self._children(spaces, suggested_only=suggested_only)
        found: dict[RoomId, LocalRoom] = {}
        for (room_id, room), summary in zip(rooms.items(), summaries, strict=True):
            named = children.get(room_id, [])
            fields = {name: getattr(summary, name) for name in summary.__struct_fields__}
            shown = SpaceRoom(**fields, children_state=[child.state for child in named])
            found[room_id] = LocalRoom(room, shown, named)
        return found

    async def load(self, room_ids: Collection[RoomId]) -> dict[RoomId, Room]:
        """Those of the rooms that this server knows."""
        names = await self._interning.find_rooms(room_ids)
        rooms = await self._rooms.get_many([name.nid for name in names.values()])
        return {room_id: rooms[name.nid] for room_id, name in names.items()}

    async def _children(
        self, spaces: Sequence[Room], *, suggested_only: bool
    ) -> Mapping[RoomId, list[Child]]:
        nids = {
            nid: room.name.room_id
            for room in spaces
            for (kind, _), nid in room.state.items()
            if kind == CHILD
        }
        found: dict[RoomId, list[Child]] = {room.name.room_id: [] for room in spaces}
        for some in pieces(nids, EVENTS_AT_ONCE):
            if len(nids) > EVENTS_AT_ONCE:
                await next_turn()
            for nid, persisted in (await self._events.load(some)).items():
                child = read_child(_stripped(persisted.event), persisted.event.content)
                if child is not None:
                    found[nids[nid]].append(child)
        return {
            room_id: within_bounds(in_order(children, suggested_only=suggested_only))
            for room_id, children in found.items()
        }


def within_bounds(children: list[Child]) -> list[Child]:
    """Those that are looked at: at most some thousand."""
    sizes = (len(bytes(child.state.content)) + CHILD_BYTES for child in children)
    return children[: fitting(sizes, CHILDREN_BYTES)]


def _stripped(event: Event) -> ChildState:
    return ChildState(
        event.type,
        RoomId(event.state_key or ""),
        msgspec.Raw(event.content_json),
        event.sender,
        event.origin_server_ts,
    )
