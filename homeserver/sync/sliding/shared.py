"""What is told of a room as many are told it: members who ask for the same slice of the log, where the room's state has not
changed, are told the same, whichever state they want. Connections that wake together are such readers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from homeserver.graph.entry import EventEntry
from homeserver.graph.read.visibility import Visible
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import UserId
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.selection.selector import Candidates, Given
from homeserver.sync.selection.update import RoomUpdate
from homeserver.sync.sliding.windows import Rule
from homeserver.sync.types import SyncRequest
from homeserver.sync.v3.shared import Key, Shared, has_plain_wishes, key_of

MEMBER: Final = "m.room.member"
STATE: Final = "required_state"
"""What stands for `state_after`."""
Section = dict[str, bytes]
"""Members of what is told of a room -> JSON."""


class SharedRoom(NamedTuple):
    """A room as several readers are told it."""

    section: Section
    """Of nobody: it is copied for who adds to it."""
    events: Sequence[Visible]
    """Those in it."""
    people: AbstractSet[UserId]
    """Whose memberships it tells."""


class Taken(NamedTuple):
    """Of the rooms of an answer, those that were made for somebody else already."""

    own: Mapping[int, Room]
    """The others."""
    keys: Mapping[int, Key]
    """Of these, those that can be shared."""
    shared: Mapping[int, SharedRoom]
    members: Collection[tuple[int, int]]
    """(room_nid, event_nid) of member events in `shared`."""


class SharedRooms(Shared[SharedRoom]):
    """Rooms as sliding sync has told them."""

    def take(
        self,
        request: SyncRequest,
        found: Candidates,
        rules: Mapping[int, Rule],
        touched: AbstractSet[int],
        given: Given,
    ) -> Taken:
        """`rules`: what is wanted of rooms; `touched`: those that are not told as they were before. `given`: member events that
        who loads members lazily has already.
        """
        if request.since is None or request.recent is None or not has_plain_wishes(request):
            return Taken(found.rooms, {}, {}, ())
        kinds, timelines = found.kinds, found.timelines
        stating = with_state(request.recent)
        own: dict[int, Room] = {}
        keys: dict[int, Key] = {}
        shared: dict[int, SharedRoom] = {}
        members: list[tuple[int, int]] = []
        for nid, room in found.rooms.items():
            plain = nid in kinds.joined and nid not in kinds.new and nid in timelines
            key = None
            if plain and nid not in touched and nid not in stating and nid not in found.resets:
                key = key_of(request, room, timelines[nid], given if rules[nid].required.lazy else None)
            known = self.get(key) if key is not None else None
            if key is not None and known is not None:
                shared[nid] = known
                members.extend((nid, at) for at in key.members)
                continue
            own[nid] = room
            if key is not None:
                keys[nid] = key
        return Taken(own, keys, shared, members)


def people_of(update: RoomUpdate) -> AbstractSet[UserId]:
    """Whose memberships an update tells."""
    events = (item.persisted.event for item in (*update.state, *update.events))
    return {UserId(event.key[1]) for event in events if event.key is not None and event.key[0] == MEMBER}


def with_events(recent: LogSlice) -> frozenset[int]:
    """Rooms in which anything has happened."""
    found: frozenset[int] | None = recent.shared.get(with_events)
    if found is None:
        found = frozenset(entry.persisted.room_nid for _, entry in recent.of(EventEntry))
        recent.shared[with_events] = found
    return found


def with_state(recent: LogSlice) -> frozenset[int]:
    """Rooms with state events in the slice: what of them is told depends on which state is wanted."""
    found: frozenset[int] | None = recent.shared.get(SharedRooms)
    if found is None:
        events = (persisted for events in recent.by_room.values() for persisted in events)
        found = frozenset(each.room_nid for each in events if each.event.key is not None)
        recent.shared[SharedRooms] = found
    return found


__all__ = ["STATE", "Section", "SharedRoom", "SharedRooms", "Taken", "people_of", "with_events", "with_state"]
