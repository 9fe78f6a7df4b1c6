"""The create event of rooms whose events rest on it without naming it.

spec: rooms/v12/#authorization-rules (MSC4291): the room ID is its reference hash, so `auth_events` leave it out. It is a part of
auth chains all the same: other programs look for it there and refuse an answer without it (Dendrite does).
"""

from __future__ import annotations

from homeserver.graph.rooms.room import Room


def implied_create(room: Room) -> set[int]:
    """Its event_nid, as a set; empty in rooms whose events name it."""
    create = room.state.get(("m.room.create", ""))
    if create is None or not room.name.version.room_id_is_create_hash:
        return set()
    return {create}
