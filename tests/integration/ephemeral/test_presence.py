"""Presence as others see it: CHECKLIST section 13."""

import pytest

from tests.support.server import Server


async def test_who_never_said_how_they_are_is_offline(server: Server) -> None:
    """EPH-10: 404 is for those who do not exist."""
    alice = await server.register("alice")
    assert await alice.get("/presence/{}/status", alice.user_id) == {"presence": "offline"}
    stranger = alice.user_id.replace("@", "@nobody-")
    await alice.get("/presence/{}/status", stranger, expect=(404, "M_NOT_FOUND"))


@pytest.mark.parametrize("recent", [True, False])
async def test_who_comes_into_sight_is_seen_as_they_are(server: Server, recent: bool) -> None:
    """EPH-09, SYNC-18: to who joins, and to who was there; from memory and from the database."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    for user, says in ((alice, "tea"), (bob, "coffee")):
        await user.put("/presence/{}/status", user.user_id, json={"presence": "online", "status_msg": says})
    tokens = {user.user_id: (await user.sync())["next_batch"] for user in (alice, bob)}
    await bob.join(room)
    if not recent:
        assert server.app is not None
        server.app.core.tail._recent.clear()
    for user, other, says in ((alice, bob, "coffee"), (bob, alice, "tea")):
        reply = await user.sync(since=tokens[user.user_id])
        seen = {event["sender"]: event["content"]["status_msg"] for event in reply["presence"]["events"]}
        assert seen == {other.user_id: says}
        again = await user.sync(since=reply["next_batch"])
        assert "presence" not in again
