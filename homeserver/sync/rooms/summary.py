"""A room's summary: heroes and counts.

spec: op:sync `RoomSummary` (SYNC-09)
"""

from __future__ import annotations

from collections.abc import Callable

from homeserver.graph.refs import BAN, INVITE, JOIN, LEAVE
from homeserver.graph.room import Room
from homeserver.graph.stored import Stored
from homeserver.matrix.ids import UserId

HEROES = 5


def heroes_of(room: Room, reader: UserId) -> list[UserId]:
    """The first five others who are joined or invited; if there are none, who have left. Empty for rooms with a name."""
    if ("m.room.name", "") in room.state or ("m.room.canonical_alias", "") in room.state:
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


def changes_summary(stored: Stored) -> bool:
    """Whether an event can change a room's summary."""
    return stored.event.type in ("m.room.member", "m.room.name", "m.room.canonical_alias")


def summary_of(room: Room, heroes: list[UserId], dumps: Callable[[object], bytes]) -> bytes:
    """JSON of the summary."""
    members = {"m.joined_member_count": room.joined_count, "m.invited_member_count": room.invited_count}
    return dumps({"m.heroes": heroes, **members} if heroes else members)
