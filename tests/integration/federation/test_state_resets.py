"""A server tries to take back what was decided in a room: by branches from before it, in the past and in the future."""

import time
from typing import Any

import pytest

from homeserver.graph.refs import REJECTED, SOFT_FAILED
from tests.integration.federation.test_send import PUBLIC
from tests.support.federation import Federation
from tests.support.remote_room import TEXT, RemoteRoom

PAST, FUTURE = 1, int(time.time() * 1000) + 3_600_000
"""`FUTURE`: what lies beyond the time for which a key is valid is not even looked at."""


@pytest.mark.parametrize("when", [PAST, FUTURE], ids=["past", "future"])
@pytest.mark.parametrize("version", ["2", "6", "11", "12"])
async def test_what_was_decided_stays(federation: Federation, version: str, when: int) -> None:
    """STATE-03, STATE-05, FED-12, FED-13: who has lost their power does not win it back on a branch from when they had it, whatever
    time it says, and neither who was banned, nor who joins the branches.
    """
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    room_id = await alice.create_room(room_version=version, **PUBLIC)
    bob, eve = remote.user("bob"), remote.user("eve")
    levels = await alice.state(room_id, "m.room.power_levels")
    await alice.put_state(
        room_id, "m.room.power_levels", {**levels, "users": {**levels.get("users", {}), bob: 50, eve: 50}}
    )
    room = await RemoteRoom.join(here, remote, room_id, "bob", "eve")
    old = room.tip

    await alice.put_state(room_id, "m.room.power_levels", {**levels, "users": levels.get("users", {})})
    await alice.ban(room_id, str(eve))
    await alice.put_state(room_id, "m.room.join_rules", {"join_rule": "invite"})
    await alice.put_state(room_id, "m.room.topic", {"topic": "decided"})
    decided = await state_of(alice, room_id)

    def fork(user: str, kind: str, content: Any, key: str, on: Any = old) -> Any:
        return room.says(user, kind, content, state_key=key, prev=[on], origin_server_ts=when)

    forks = [
        fork("bob", "m.room.power_levels", {**levels, "users": {**levels.get("users", {}), eve: 50}}, ""),
        fork("bob", "m.room.join_rules", {"join_rule": "public"}, ""),
        fork("bob", "m.room.topic", {"topic": "reset"}, ""),
        fork("eve", "m.room.member", {"membership": "join", "displayname": "back"}, eve),
        fork("eve", "m.room.member", {"membership": "leave"}, bob),
        fork("bob", "m.room.member", {"membership": "ban"}, alice.user_id),
    ]
    await room.send(*forks)
    arrived = await room.arrives(*forks)
    assert all(each.flags & (REJECTED | SOFT_FAILED) for each in arrived), [each.flags for each in arrived]
    assert await state_of(alice, room_id) == decided

    await alice.send(room_id, "it goes on")
    await room.look()
    standing = [event for event, each in zip(forks, arrived, strict=True) if not each.flags & REJECTED]
    both = room.says("bob", "m.room.message", TEXT, prev=[*standing, room.tip], origin_server_ts=when)
    again = room.says(
        "bob", "m.room.topic", {"topic": "again"}, state_key="", prev=[both], origin_server_ts=when
    )
    await room.send(both, again)
    _, refused = await room.arrives(both, again)
    assert refused.flags & (REJECTED | SOFT_FAILED)
    await alice.send(room_id, "and on")
    assert await state_of(alice, room_id) == decided


async def state_of(alice: Any, room_id: str) -> dict[tuple[str, str], Any]:
    """Of what counts: who may what, who is banned, what it is about."""
    events = await alice.get("/rooms/{}/state", room_id)
    wanted = {"m.room.power_levels", "m.room.join_rules", "m.room.topic", "m.room.member", "m.room.create"}
    return {(each["type"], each["state_key"]): each["content"] for each in events if each["type"] in wanted}
