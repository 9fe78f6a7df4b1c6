"""Rooms that two users are both in: CHECKLIST USER-07."""

import pytest

from homeserver.rooms import mutual
from tests.support.server import Server

PATH = "/_matrix/client/v1/mutual_rooms"
OLD = "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"


async def test_rooms_that_both_are_joined_to(server: Server) -> None:
    """USER-07."""
    alice, bob = await server.register("alice"), await server.register("bob")
    both, left, invited = [await alice.create_room(preset="public_chat") for _ in range(3)]
    await alice.create_room(preset="public_chat")
    await bob.join(both)
    await bob.join(left)
    await bob.leave(left)
    await alice.invite(invited, bob)
    expected = {"joined": [both], "count": 1}
    assert await alice.get(PATH, params={"user_id": bob.user_id}) == expected
    assert await bob.get(PATH, params={"user_id": alice.user_id}) == expected
    assert await bob.get(OLD, params={"user_id": alice.user_id}) == expected
    flags = (await server.client.get("/_matrix/client/versions"))["unstable_features"]
    assert flags["uk.half-shot.msc2666.query_mutual_rooms"] is True
    assert flags["uk.half-shot.msc2666.query_mutual_rooms.stable"] is True


async def test_many_rooms_come_in_pages(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """USER-07."""
    monkeypatch.setattr(mutual, "PAGE", 2)
    alice, bob = await server.register("alice"), await server.register("bob")
    rooms = [await alice.create_room(preset="public_chat") for _ in range(3)]
    for room in rooms:
        await bob.join(room)
    first = await alice.get(PATH, params={"user_id": bob.user_id})
    assert (first["joined"], first["count"]) == (rooms[:2], 3)
    last = await alice.get(PATH, params={"user_id": bob.user_id, "from": first["next_batch"]})
    assert last == {"joined": rooms[2:], "count": 3}
    old = await alice.get(OLD, params={"user_id": bob.user_id})
    again = {"user_id": bob.user_id, "batch_token": old["next_batch_token"]}
    assert (await alice.get(OLD, params=again))["joined"] == rooms[2:]


async def test_whom_one_shares_no_rooms_with(server: Server) -> None:
    """USER-07: unknown users have an empty list; oneself, nobody and what is no user are refused."""
    alice = await server.register("alice")
    for stranger in ("@nobody:localhost", "@nobody:elsewhere.example"):
        assert await alice.get(PATH, params={"user_id": stranger}) == {"joined": [], "count": 0}
    for wrong in ({"user_id": alice.user_id}, {"user_id": "alice"}, {"user_id": "@a:b", "from": "x"}):
        await alice.get(PATH, params=wrong, expect=(400, "M_INVALID_PARAM"))
    await alice.get(PATH, expect=(400, "M_MISSING_PARAM"))
