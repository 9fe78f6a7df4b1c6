"""A room's summary: its heroes, and when it is news.

spec: op:sync `RoomSummary` (SYNC-09)
"""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.events.event import StateKey
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import BAN, INVITE, JOIN, LEAVE
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import UserId

HEROES = 5
NAMES: dict[StateKey, str] = {("m.room.name", ""): "name", ("m.room.canonical_alias", ""): "alias"}
"""State that names a room -> the property with the name."""


def naming_events(room: Room) -> list[int]:
    """Numbers of the events that may give the room a name."""
    return [room.state[key] for key in NAMES if key in room.state]


def heroes_of(room: Room, reader: UserId, naming: Mapping[int, PersistedEvent]) -> list[UserId]:
    """The first five others who are joined or invited; if there are none, who have left. Empty for rooms with a name.

    `naming`: the events of `naming_events`. spec: op:sync `m.heroes`: state that is there but empty is no name.
    """
    for key, property_name in NAMES.items():
        persisted = naming.get(room.state.get(key, 0))
        name = persisted.event.content.get(property_name) if persisted else None
        if isinstance(name, str) and name:
            return []
    for memberships in ((JOIN, INVITE), (LEAVE, BAN)):
        found: list[UserId] = []
        for user_id, member in room.members.items():
            if member.membership in memberships and user_id != reader:
                found.append(user_id)
                if len(found) == HEROES:
                    break
        if found:
            return found
    return []


def changes_summary(persisted: PersistedEvent) -> bool:
    """Whether an event can change a room's summary."""
    return persisted.event.type in ("m.room.member", "m.room.name", "m.room.canonical_alias")
