"""What is kept of a room's state for all who read it: every reader is told what that reader is told of each event alone."""

from typing import Any
from unittest.mock import patch

import pytest

from homeserver.graph.rooms.cache import Rooms
from homeserver.rooms import state_answers
from tests.support.server import Server
from tests.support.user import User


def without_age(event: dict[str, Any]) -> dict[str, Any]:
    age = event["unsigned"].pop("age")
    assert 0 <= age < 10 * 60_000
    return event


async def told(reader: User, room: str) -> list[dict[str, Any]]:
    """All of the state; checked against the endpoint that tells one event, and against `/members`."""
    state = [without_age(event) for event in await reader.state(room)]
    alone = [
        without_age(
            await reader.get(
                "/rooms/{}/state/{}/{}", room, event["type"], event["state_key"], params={"format": "event"}
            )
        )
        for event in state
    ]
    assert state == alone
    members = await reader.get("/rooms/{}/members", room)
    assert [without_age(event) for event in members["chunk"]] == [
        event for event in state if event["type"] == "m.room.member"
    ]
    return state


@pytest.mark.parametrize("at_once", [1, 4, 5_000])
async def test_each_reader_is_told_what_concerns_them(
    server: Server, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """ROOM-18, ROOM-19, FILT-06: `membership` and what was replaced, by when the reader came; all of one's own."""
    monkeypatch.setattr(state_answers, "RENDERED_AT_ONCE", at_once)
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(preset="public_chat", name="First")
    await bob.join(room)
    await alice.put_state(room, "m.room.topic", {"topic": "100 % of it, %d"})
    await alice.put_state(room, "m.room.name", {"name": "Second"})
    await carol.join(room)
    await alice.put_state(room, "m.room.name", {"name": "Third"})
    await alice.put_state(room, "m.room.topic", {"topic": "other"})
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Bob %d"})
    for reader in (alice, bob, carol, await alice.new_device(), alice):
        state = {event["type"]: event for event in await told(reader, room)}
        assert state["m.room.name"]["unsigned"]["membership"] == "join"
        previous = state["m.room.name"]["unsigned"].get("prev_content")
        assert previous == (None if reader is carol else {"name": "Second"})
        assert ("membership" in state["m.room.create"]["unsigned"]) is False
    await carol.leave(room)
    await carol.join(room)
    assert (
        "prev_content"
        in next(e for e in await told(carol, room) if e["state_key"] == carol.user_id)["unsigned"]
    )


async def test_what_changes_is_told_at_once(server: Server) -> None:
    """ROOM-18 to ROOM-20: state, names, redactions, and who goes, by whatever request was asked before."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", name="First")
    await bob.join(room)

    async def seen() -> tuple[dict[str, Any], dict[str, Any]]:
        state = {(e["type"], e["state_key"]): e for e in await told(alice, room)}
        return state, (await alice.get("/rooms/{}/joined_members", room))["joined"]

    before, joined = await seen()
    assert set(joined) == {alice.user_id, bob.user_id}
    await alice.send(room, "a message changes nothing")
    assert await seen() == (before, joined)
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Robert"})
    state, joined = await seen()
    assert joined[bob.user_id]["display_name"] == "Robert"
    assert state["m.room.member", bob.user_id]["content"]["displayname"] == "Robert"
    await alice.redact(room, state["m.room.member", bob.user_id]["event_id"])
    state, joined = await seen()
    assert joined[bob.user_id]["display_name"] is None
    assert state["m.room.member", bob.user_id]["content"] == {"membership": "join"}
    assert "redacted_because" in state["m.room.member", bob.user_id]["unsigned"]
    await alice.redact(room, state["m.room.name", ""]["event_id"])
    assert (await seen())[0]["m.room.name", ""]["content"] == {}
    await alice.kick(room, bob)
    state, joined = await seen()
    assert set(joined) == {alice.user_id}
    assert state["m.room.member", bob.user_id]["content"]["membership"] == "leave"
    await bob.get("/rooms/{}/joined_members", room, expect=(403, "M_FORBIDDEN"))
    assert {
        e["content"].get("membership") for e in await bob.state(room) if e["state_key"] == bob.user_id
    } == {"leave"}


async def test_members_are_chosen_by_membership(server: Server) -> None:
    """ROOM-19: each filter, asked again and again, and after a change."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await alice.invite(room, carol)
    for last in ("join", "leave"):
        for _ in range(2):
            everybody = {alice.user_id: "join", bob.user_id: last, carol.user_id: "invite"}
            assert await alice.members(room) == everybody
            for chosen in ("join", "leave", "invite", "ban"):
                assert await alice.members(room, membership=chosen) == {
                    user: each for user, each in everybody.items() if each == chosen
                }
                assert await alice.members(room, not_membership=chosen) == {
                    user: each for user, each in everybody.items() if each != chosen
                }
        await bob.leave(room)


async def test_members_at_a_token(server: Server) -> None:
    """ROOM-19: at the newest token as now, at an older one as then."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    before = (await alice.sync())["next_batch"]
    assert set(await alice.members(room, at=before)) == {alice.user_id, bob.user_id}
    await carol.join(room)
    await bob.leave(room)
    after = (await alice.sync())["next_batch"]
    now = {alice.user_id: "join", bob.user_id: "leave", carol.user_id: "join"}
    for _ in range(2):
        assert await alice.members(room, at=before) == {alice.user_id: "join", bob.user_id: "join"}
        assert await alice.members(room, at=after) == now
    await alice.send(room, "nobody moves")
    await alice.sync()
    assert await alice.members(room, at=alice.since, not_membership="leave") == {
        user: each for user, each in now.items() if each != "leave"
    }


async def test_a_delayed_state_event_names_its_delay_to_its_sender_alone(server: Server) -> None:
    """MSC4140, FILT-06."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    path = "/rooms/{}/state/{}/{}"
    reply = await alice.put(
        path, room, "m.room.topic", "", json={"topic": "later"}, params={"org.matrix.msc4140.delay": 60_000}
    )
    await alice.post(
        "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{}",
        reply["delay_id"],
        json={"action": "send"},
    )
    for reader, expected in ((bob, None), (alice, reply["delay_id"]), (bob, None)):
        topic = next(e for e in await told(reader, room) if e["type"] == "m.room.topic")
        assert topic["unsigned"].get("org.matrix.msc4140.delay_id") == expected


async def test_a_room_in_pieces_and_one_that_moves_on_meanwhile(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun before a change is not kept beyond it; nor is what was read of a room that nobody tells of changes."""
    monkeypatch.setattr(state_answers, "EVENTS_AT_ONCE", 2)
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", name="First")

    real, moved = state_answers.next_turn, False

    async def moving() -> None:
        nonlocal moved
        if not moved:
            moved = True
            await bob.join(room)
        await real()

    monkeypatch.setattr(state_answers, "next_turn", moving)
    await alice.state(room)
    assert moved
    assert bob.user_id in {event["state_key"] for event in await told(alice, room)}
    with patch.object(Rooms, "cached", return_value=None):
        await alice.put_state(room, "m.room.topic", {"topic": "one"})
        await told(alice, room)
    await alice.put_state(room, "m.room.topic", {"topic": "two"})
    assert {"topic": "two"} in [event["content"] for event in await told(alice, room)]


async def test_two_processes(two_servers_processes: Server) -> None:
    """API-12: who has heard of a change reads it at any process."""
    server = two_servers_processes
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    for number in range(10):
        await alice.put_state(room, "m.room.topic", {"topic": str(number)})
        await (bob.join if number % 2 == 0 else bob.leave)(room)
        for _ in range(4):
            state = {event["type"]: event for event in await alice.state(room)}
            assert state["m.room.topic"]["content"] == {"topic": str(number)}
            joined = (await alice.get("/rooms/{}/joined_members", room))["joined"]
            assert (bob.user_id in joined) is (number % 2 == 0)
