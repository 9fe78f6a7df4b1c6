"""What those who have left may still read, and those who never were in may not: CHECKLIST section 8 and 20."""

from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User


async def gone(server: Server) -> tuple[User, User, str]:
    """Alice's room, in which Bob was, and of which he has not seen the rest."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", name="Before")
    await bob.join(room)
    await alice.send(room, "seen")
    return alice, bob, room


async def test_state_and_members_stay_as_they_were_at_the_leave(server: Server) -> None:
    """ROOM-18, HV-04."""
    alice, bob, room = await gone(server)
    carol = await server.register("carol")
    await bob.leave(room)
    await alice.put_state(room, "m.room.name", {"name": "After"})
    await alice.put_state(room, "m.room.topic", {"topic": "new"})
    await carol.join(room)
    assert (await bob.state(room, "m.room.name"))["name"] == "Before"
    await bob.state(room, "m.room.topic", expect=(404, "M_NOT_FOUND"))
    names = [e["content"]["name"] for e in await bob.state(room) if e["type"] == "m.room.name"]
    assert names == ["Before"]
    assert await bob.members(room) == {alice.user_id: "join", bob.user_id: "leave"}
    await bob.get("/rooms/{}/joined_members", room, expect=(403, "M_FORBIDDEN"))


@pytest.mark.parametrize("direction", ["b", "f"])
async def test_history_ends_with_the_leave(server: Server, direction: str) -> None:
    """ROOM-18, HV-01, HV-04: messages, event and context alike."""
    alice, bob, room = await gone(server)
    token = (await alice.sync())["next_batch"]
    await bob.leave(room)
    secret = await alice.send(room, "secret")
    for params in ({}, {"from_": token}):
        page = await bob.messages(room, dir=direction, limit=100, **params)
        assert "secret" not in [e["content"].get("body") for e in page["chunk"]]
    page = await bob.messages(room, dir=direction, limit=100)
    bodies = [e["content"].get("body") for e in page["chunk"]]
    assert "seen" in bodies
    assert any(e["content"].get("membership") == "leave" for e in page["chunk"])
    await bob.event(room, secret, expect=(404, "M_NOT_FOUND"))
    await bob.get("/rooms/{}/context/{}", room, secret, expect=(404, "M_NOT_FOUND"))
    seen = next(e for e in page["chunk"] if e["content"].get("body") == "seen")
    context = await bob.get("/rooms/{}/context/{}", room, seen["event_id"])
    assert secret not in {e["event_id"] for e in context["events_after"]}


async def test_the_world_readable_room_is_read_on_after_the_leave(server: Server) -> None:
    """HV-04: unless world readable."""
    alice, bob, room = await gone(server)
    await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "world_readable"})
    await bob.leave(room)
    after = await alice.send(room, "for everybody")
    assert (await bob.event(room, after))["content"]["body"] == "for everybody"
    page = await bob.messages(room, limit=1)
    assert page["chunk"][0]["event_id"] == after


async def test_a_ban_after_the_leave_takes_away_nothing(server: Server) -> None:
    """ROOM-18: he was in the room, whatever became of his membership since."""
    alice, bob, room = await gone(server)
    await bob.leave(room)
    await alice.put_state(room, "m.room.name", {"name": "After"})
    await alice.ban(room, bob)
    bodies = [e["content"].get("body") for e in (await bob.messages(room, limit=50))["chunk"]]
    assert "seen" in bodies
    assert (await bob.state(room, "m.room.name"))["name"] == "Before"


async def test_an_invite_turned_down_after_the_leave_takes_away_nothing(server: Server) -> None:
    """ROOM-18."""
    alice, bob, room = await gone(server)
    await bob.leave(room)
    await alice.invite(room, bob)
    await bob.leave(room)
    bodies = [e["content"].get("body") for e in (await bob.messages(room, limit=50))["chunk"]]
    assert "seen" in bodies


async def test_who_was_only_invited_reads_nothing(server: Server) -> None:
    """ROOM-18, HV-01."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="private_chat", invite=[bob.user_id])
    for _ in range(2):
        await bob.messages(room, expect=(403, "M_FORBIDDEN"))
        await bob.state(room, expect=(403, "M_FORBIDDEN"))
        await bob.get("/rooms/{}/members", room, expect=(403, "M_FORBIDDEN"))
        await bob.leave(room)


async def test_one_forgets_only_what_one_has_left(server: Server) -> None:
    """ROOM-17, SYNC-14: no history after it, no section in a sync, until one comes back."""
    alice, bob, room = await gone(server)
    await bob.post("/rooms/{}/forget", room, expect=(400, "M_UNKNOWN"))
    await bob.leave(room)
    include = {"room": {"include_leave": True}}
    assert room in (await bob.sync(since=None, filter=include))["rooms"]["leave"]
    await bob.post("/rooms/{}/forget", room)
    assert room not in (await bob.sync(since=None, filter=include)).get("rooms", {}).get("leave", {})
    await bob.messages(room, expect=(403, "M_FORBIDDEN"))
    await bob.state(room, expect=(403, "M_FORBIDDEN"))
    await alice.invite(room, bob)
    assert room in (await bob.sync())["rooms"]["invite"]
    await bob.join(room)
    assert "seen" in [e["content"].get("body") for e in (await bob.messages(room, limit=50))["chunk"]]


@pytest.mark.parametrize(
    ("value", "invited_sees", "before_sees"),
    [
        ("world_readable", True, True),
        ("shared", True, True),
        ("invited", True, False),
        ("joined", False, False),
    ],
)
async def test_what_a_newcomer_sees_of_the_past(
    server: Server, value: str, invited_sees: bool, before_sees: bool
) -> None:
    """HV-01: the table, on messages, event, context and sync."""
    alice, bob = await server.register("alice"), await server.register("bob")
    visibility = {"type": "m.room.history_visibility", "content": {"history_visibility": value}}
    room = await alice.create_room(preset="private_chat", initial_state=[visibility])
    before = await alice.send(room, "before")
    await alice.invite(room, bob)
    invited = await alice.send(room, "invited")
    await bob.join(room)
    joined = await alice.send(room, "joined")
    for event_id, sees in ((before, before_sees), (invited, invited_sees), (joined, True)):
        await bob.event(room, event_id, expect=200 if sees else 404)
        await bob.get("/rooms/{}/context/{}", room, event_id, expect=200 if sees else 404)
    expected = [
        event for event, sees in ((joined, True), (invited, invited_sees), (before, before_sees)) if sees
    ]
    page = await bob.messages(room, limit=100)
    assert [e["event_id"] for e in page["chunk"] if e["type"] == "m.room.message"] == expected
    timeline = (await bob.sync())["rooms"]["join"][room]["timeline"]["events"]
    assert [e["event_id"] for e in reversed(timeline) if e["type"] == "m.room.message"] == expected


async def test_a_visibility_nobody_knows_means_shared(server: Server) -> None:
    """HV-03; that there is none at all cannot be brought about from here."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="private_chat")
    await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "unheard of"})
    before = await alice.send(room, "before")
    await bob.event(room, before, expect=(404, "M_NOT_FOUND"))
    await alice.invite(room, bob)
    await bob.join(room)
    await bob.event(room, before)


async def test_the_change_of_visibility_itself_is_seen_if_either_value_allows(server: Server) -> None:
    """HV-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    closing = await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "joined"})
    hidden = await alice.send(room, "hidden")
    opening = await alice.put_state(room, "m.room.history_visibility", {"history_visibility": "shared"})
    await bob.join(room)
    await bob.event(room, closing)
    await bob.event(room, hidden, expect=(404, "M_NOT_FOUND"))
    await bob.event(room, opening)


async def test_members_at_a_token_are_those_of_then(server: Server) -> None:
    """ROOM-19."""
    alice, bob, room = await gone(server)
    carol = await server.register("carol")
    await alice.sync()
    then = alice.since
    await bob.leave(room)
    await carol.join(room)
    assert await alice.members(room, at=then) == {alice.user_id: "join", bob.user_id: "join"}
    assert await alice.members(room, membership="leave") == {bob.user_id: "leave"}
    assert set(await alice.members(room, not_membership="leave")) == {alice.user_id, carol.user_id}
    both = await alice.members(room, membership="leave", not_membership="leave")
    assert set(both) == {alice.user_id, bob.user_id, carol.user_id}


async def test_members_at_the_beginning_of_a_whole_timeline_are_the_creator(server: Server) -> None:
    """ROOM-19: there was nobody before; the room begins with its creator's coming."""
    alice, bob, room = await gone(server)
    timeline = (await alice.sync())["rooms"]["join"][room]["timeline"]
    assert timeline["limited"] is False
    for user in (alice, bob):
        assert await user.members(room, at=timeline["prev_batch"]) == {alice.user_id: "join"}
    await bob.leave(room)
    assert await bob.members(room, at=timeline["prev_batch"]) == {alice.user_id: "join"}


async def test_members_at_a_later_token_end_with_the_leave(server: Server) -> None:
    """ROOM-19, HV-04."""
    alice, bob, room = await gone(server)
    carol = await server.register("carol")
    await bob.leave(room)
    await carol.join(room)
    await alice.sync()
    assert await bob.members(room, at=alice.since) == {alice.user_id: "join", bob.user_id: "leave"}
    await alice.get("/rooms/{}/members", room, params={"at": "nonsense"}, expect=(400, "M_INVALID_PARAM"))


async def test_joined_members_are_for_members(server: Server) -> None:
    """ROOM-20."""
    alice, bob, room = await gone(server)
    carol = await server.register("carol")
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Bob"})
    joined = (await alice.get("/rooms/{}/joined_members", room))["joined"]
    assert joined[bob.user_id]["display_name"] == "Bob"
    assert joined[bob.user_id]["avatar_url"] is None
    assert set(joined) == {alice.user_id, bob.user_id}
    await carol.get("/rooms/{}/joined_members", room, expect=(403, "M_FORBIDDEN"))


@pytest.mark.parametrize("visibility", ["shared", "invited", "joined"])
async def test_who_turns_an_invite_down_sees_that_they_did(server: Server, visibility: str) -> None:
    """SYNC-06: whatever else they may not see of the room."""
    alice, bob = await server.register("alice"), await server.register("bob")
    event = {"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}
    room = await alice.create_room(preset="private_chat", initial_state=[event])
    await alice.invite(room, bob)
    assert room in (await bob.sync())["rooms"]["invite"]
    await alice.leave(room)
    await bob.leave(room)
    left = (await bob.sync())["rooms"]["leave"][room]
    own = [e for e in left["timeline"]["events"] if e.get("state_key") == bob.user_id]
    assert [e["content"]["membership"] for e in own][-1] == "leave"


async def test_a_room_that_was_forgotten_at_once_is_left_on_every_device(server: Server) -> None:
    """ROOM-17, SYNC-14: whoever asks later would show it for ever."""
    alice = await server.register("alice")
    phone = await alice.new_device()
    room = await alice.create_room()
    await phone.sync()
    await alice.leave(room)
    await alice.post("/rooms/{}/forget", room)
    assert room in (await phone.sync())["rooms"]["leave"]
    assert room not in (await phone.sync()).get("rooms", {}).get("leave", {})
    assert room not in (await phone.sync(since=None)).get("rooms", {}).get("leave", {})


async def test_where_leaving_is_forgetting_the_server_forgets_by_itself(start_server: Any) -> None:
    """CAP-04: leaving, being removed, being banned."""
    server = await start_server(rooms={"forget_on_leave": True})
    alice, bob = await server.register("alice"), await server.register("bob")
    capabilities = (await alice.get("/capabilities"))["capabilities"]
    assert capabilities["m.forget_forced_upon_leave"] == {"enabled": True}
    rooms = [await alice.create_room(preset="public_chat") for _ in range(3)]
    for room in rooms:
        await bob.join(room)
    await bob.sync()
    await bob.leave(rooms[0])
    await alice.kick(rooms[1], bob)
    await alice.ban(rooms[2], bob)
    assert sorted((await bob.sync())["rooms"]["leave"]) == sorted(rooms)
    for room in rooms:
        await bob.messages(room, expect=(403, "M_FORBIDDEN"))
    include = {"room": {"include_leave": True}}
    assert not (await bob.sync(since=None, filter=include)).get("rooms", {}).get("leave")
    await bob.join(rooms[0])
    assert (await bob.messages(rooms[0]))["chunk"]


async def test_elsewhere_leaving_is_not_forgetting(server: Server) -> None:
    """CAP-04."""
    alice = await server.register("alice")
    capabilities = (await alice.get("/capabilities"))["capabilities"]
    assert capabilities["m.forget_forced_upon_leave"] == {"enabled": False}
    room = await alice.create_room()
    await alice.leave(room)
    assert (await alice.messages(room))["chunk"]
