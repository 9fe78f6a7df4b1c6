"""What rules that look into events may ask of the room: as it is now."""

from __future__ import annotations

from homeserver.events.auth_rules.power import CREATE, POWER_LEVELS, levels_in
from homeserver.events.push_rules import Around
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import UserId


async def around_of(room: Room, events: EventCache, user_id: UserId) -> Around:
    """For one user in it."""
    wanted = [CREATE, POWER_LEVELS, ("m.room.member", user_id)]
    loaded = await events.load([room.state[key] for key in wanted if key in room.state])
    state = {
        persisted.event.key: persisted.event
        for persisted in loaded.values()
        if persisted.event.key is not None
    }
    member = state.get(("m.room.member", user_id))
    name = member.content.get("displayname") if member else None
    levels = levels_in(state, room.name.version)
    return Around(room.joined_count, levels, name if isinstance(name, str) else None)
