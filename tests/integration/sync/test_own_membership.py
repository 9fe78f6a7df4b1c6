"""Who a room has to do with is told so: one's own membership is one's own (HV-02, SYNC-13, SYNC-14, ROOM-18, ROOM-19)."""

from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

EVERYTHING = {"room": {"include_leave": True}}


def own_events(section: dict[str, Any], user: User) -> list[dict[str, Any]]:
    """The user's membership events of a section, state first."""
    events = section.get("state", {"events": []})["events"] + section["timeline"]["events"]
    return [e for e in events if (e["type"], e.get("state_key")) == ("m.room.member", user.user_id)]


def room_of(visibility: str, *invite: User) -> dict[str, Any]:
    content = {"history_visibility": visibility}
    return {
        "preset": "private_chat",
        "initial_state": [{"type": "m.room.history_visibility", "content": content}],
        "invite": [user.user_id for user in invite],
    }


async def is_told(user: User, room: str, membership: str, before: str, **params: Any) -> None:
    """The next sync, a sync from the beginning, the room's state and its members agree."""
    section = (await user.sync(**params))["rooms"]["leave"][room]
    last = own_events(section, user)[-1]
    assert last["content"]["membership"] == membership
    assert last["unsigned"]["prev_content"]["membership"] == before
    since = user.since
    first = (await user.sync(since=None, filter=EVERYTHING))["rooms"]["leave"][room]
    user.since = since
    assert own_events(first, user)[-1]["event_id"] == last["event_id"]
    context = await user.get("/rooms/{}/context/{}", room, last["event_id"])
    assert context["event"]["content"]["membership"] == membership
    kept = {(e["type"], e["state_key"]): e for e in await user.state(room)}
    assert kept["m.room.member", user.user_id]["event_id"] == last["event_id"]
    assert (await user.state(room, "m.room.member", user.user_id))["membership"] == membership
    assert (await user.members(room))[user.user_id] == membership
    page = await user.messages(room, limit=50)
    assert page["chunk"][0]["event_id"] == last["event_id"]
    assert (await user.messages(room, limit=1))["chunk"][0]["event_id"] == last["event_id"]


@pytest.mark.parametrize("visibility", ["shared", "joined", "invited"])
async def test_who_is_unbanned_is_told(server: Server, visibility: str) -> None:
    """Element goes on showing "You were banned" otherwise."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(**room_of(visibility, bob))
    await bob.join(room)
    await bob.sync()
    await alice.ban(room, bob)
    await is_told(bob, room, "ban", "join")
    for n in range(12):
        await alice.put_state(room, "m.room.topic", {"topic": f"secret {n}"})
    await alice.unban(room, bob)
    await is_told(bob, room, "leave", "ban")
    await alice.ban(room, bob)
    for n in range(12):
        await alice.send(room, f"secret {n}")
    await alice.unban(room, bob)
    await is_told(bob, room, "leave", "ban", filter={"room": {"timeline": {"types": ["m.room.message"]}}})
    for params in ({}, {"from_": (await alice.sync())["next_batch"]}):
        assert "secret" not in str(await bob.messages(room, limit=50, **params))
    assert "secret" not in str(await bob.state(room))
    own = await bob.state(room)
    unbanned = next(e["event_id"] for e in own if e["state_key"] == bob.user_id)
    assert "secret" not in str(await bob.get("/rooms/{}/context/{}", room, unbanned))


@pytest.mark.parametrize("visibility", ["shared", "joined", "invited"])
async def test_who_is_banned_after_having_left_is_told(server: Server, visibility: str) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(**room_of(visibility, bob), topic="while bob was in")
    await bob.join(room)
    await bob.leave(room)
    await alice.put_state(room, "m.room.topic", {"topic": "secret"})
    await bob.sync()
    await alice.ban(room, bob)
    await is_told(bob, room, "ban", "leave")
    assert (await bob.state(room, "m.room.topic"))["topic"] == "while bob was in"
    banned = (await bob.messages(room, limit=1))["chunk"][0]["event_id"]
    context = await bob.get("/rooms/{}/context/{}", room, banned)
    assert "secret" not in str(context)
    members = {e["state_key"]: e["content"] for e in context["state"] if e["type"] == "m.room.member"}
    assert members[bob.user_id]["membership"] == "ban"
    assert members[alice.user_id]["membership"] == "join"


async def test_who_is_banned_without_ever_having_been_in_is_told(server: Server) -> None:
    """Of the ban alone: not what the room is."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="private_chat", topic="secret")
    await bob.sync()
    await alice.ban(room, bob, reason="spam")
    told = (await bob.sync())["rooms"]["leave"][room]
    [own] = own_events(told, bob)
    assert (own["content"]["membership"], own["content"]["reason"]) == ("ban", "spam")
    assert "secret" not in str(told)
    await bob.state(room, expect=(403, "M_FORBIDDEN"))
    await alice.unban(room, bob)
    [own] = own_events((await bob.sync())["rooms"]["leave"][room], bob)
    assert own["unsigned"]["prev_content"]["membership"] == "ban"


@pytest.mark.parametrize("visibility", ["shared", "joined", "invited", "world_readable"])
@pytest.mark.parametrize("limit", [None, 0])
async def test_a_leave_tells_that_an_invite_or_a_knock_was_before(
    server: Server, visibility: str, limit: int | None
) -> None:
    """FILT-06: clients say "declined" then, not "left"."""
    parameters = {} if limit is None else {"filter": {"room": {"timeline": {"limit": limit}}}}
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(**room_of(visibility))
    await alice.put_state(room, "m.room.join_rules", {"join_rule": "knock"})
    for before in ("invite", "knock"):
        for turned_down_by in (alice, bob):
            if before == "invite":
                await alice.invite(room, bob, reason="come")
            else:
                await bob.post("/knock/{}", room, json={"reason": "please"})
            await bob.sync()
            if turned_down_by is bob:
                await bob.leave(room)
            else:
                await alice.kick(room, bob)
            [own] = own_events((await bob.sync(**parameters))["rooms"]["leave"][room], bob)
            assert own["content"]["membership"] == "leave"
            assert own["unsigned"]["prev_content"]["membership"] == before


async def test_members_at_a_token_tell_of_oneself_what_was_then(server: Server) -> None:
    """ROOM-19."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(**room_of("shared", bob))
    await bob.join(room)
    at = [("join", (await alice.sync())["next_batch"])]
    await bob.leave(room)
    at.append(("leave", (await alice.sync())["next_batch"]))
    await alice.ban(room, bob)
    at.append(("ban", (await alice.sync())["next_batch"]))
    await alice.unban(room, bob)
    at.append(("leave", (await alice.sync())["next_batch"]))
    for membership, token in at:
        assert (await bob.members(room, at=token))[bob.user_id] == membership
