"""Forks a room in the database: two branches as other servers would send them, with 100 events that conflict."""

from __future__ import annotations

from homeserver.matrix.ids import RoomId
from homeserver.wiring.core import Core
from tests.support.branches import branches

CONFLICTING = 100


async def make_fork(core: Core, room_id: RoomId, moderator: str) -> tuple[int, int]:
    """Fork the room at its one extremity; the numbers of the states after either branch.

    `moderator` may ban and change levels; there are users 1 to 2 000.
    """
    room = await core.rooms.known(room_id)
    left, right = await branches(core, room_id, 2)
    stored = await core.events.one(room.state["m.room.power_levels", ""])
    assert stored is not None
    levels = dict(stored.event.content)
    await left.send(moderator, "m.room.power_levels", "", {**levels, "ban": 40})
    await right.send(moderator, "m.room.power_levels", "", {**levels, "kick": 40})
    for number in range(1, CONFLICTING // 4 - 1):
        # Each conflict has a side that acted and the event that was there before, or an event on either side.
        user, other = f"@user{number}:{core.server_name}", f"@user{number + 1000}:{core.server_name}"
        await left.send(moderator, "m.room.member", user, {"membership": ("ban", "leave")[number % 2]})
        await right.send(user, "m.room.member", user, {"membership": "join", "displayname": "renamed"})
        await left.send(other, "m.room.member", other, {"membership": "join", "displayname": "left"})
        await right.send(other, "m.room.member", other, {"membership": "join", "displayname": "right"})
    for kind in ("m.room.topic", "m.room.name", "m.room.avatar"):
        await left.send(moderator, kind, "", {"x": "left"})
        await right.send(moderator, kind, "", {"x": "right"})
    return left.tip.state_after_nid, right.tip.state_after_nid
