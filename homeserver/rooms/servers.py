"""Which servers are in a room. Pure."""

from __future__ import annotations

from collections import Counter
from typing import Final

from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import ServerName, domain_of

MAX_SERVERS: Final = 20


def servers_in(room: Room, own: ServerName, most: int = MAX_SERVERS) -> list[ServerName]:
    """Servers with users in the room: `own` first if it has any, then those with most of them."""
    counts = Counter(
        domain_of(user_id) for user_id, member in room.members.items() if member.membership == JOIN
    )
    return sorted(counts, key=lambda name: (name != own, -counts[name], name))[:most]
