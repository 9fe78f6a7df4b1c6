"""What clients asked for before `/sync`, of all rooms together: CHECKLIST SYNC-24."""

import asyncio
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User


async def initial(user: User, **params: Any) -> dict[str, Any]:
    return dict(await user.get("/initialSync", params=params))


async def events(user: User, since: str | None = None, timeout: int = 0) -> tuple[list[dict[str, Any]], str]:
    params = {"timeout": timeout, **({"from": since} if since else {})}
    reply = await user.get("/events", params=params)
    return reply["chunk"], reply["end"]


async def test_the_whole_state_of_a_user(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(name="Team", visibility="public")
    said = [await alice.send(room, str(number)) for number in range(3)]
    await alice.put("/user/{}/account_data/org.example", alice.user_id, json={"a": 1})
    await alice.put("/user/{}/rooms/{}/tags/u.work", alice.user_id, room, json={"order": 0.5})
    left = await alice.create_room()
    await alice.leave(left)
    invited = await bob.create_room(name="Bob's")
    await bob.invite(invited, alice)
    declined = await bob.create_room()
    await bob.invite(declined, alice)
    await alice.leave(declined)

    whole = await initial(alice, limit=2)
    rooms = {one["room_id"]: one for one in whole["rooms"]}
    assert set(rooms) == {room, invited}
    team = rooms[room]
    assert (team["membership"], team["visibility"]) == ("join", "public")
    assert [event["event_id"] for event in team["messages"]["chunk"]] == said[1:]
    assert {event["type"] for event in team["state"]} > {"m.room.create", "m.room.name", "m.room.member"}
    assert [data["type"] for data in team["account_data"]] == ["m.tag"]
    assert rooms[invited]["membership"] == "invite"
    assert rooms[invited]["invite"]["sender"] == bob.user_id
    data = {one["type"]: one["content"] for one in whole["account_data"]}
    assert data["org.example"] == {"a": 1}
    assert "m.push_rules" in data
    assert alice.user_id in {one["sender"] for one in whole["presence"]}

    earlier = await alice.get(
        "/rooms/{}/messages", room, params={"dir": "b", "from": team["messages"]["start"], "limit": 1}
    )
    assert [event["event_id"] for event in earlier["chunk"]] == said[:1]
    archived = {one["room_id"]: one for one in (await initial(alice, archived="true"))["rooms"]}
    assert set(archived) == {room, invited, left}
    assert archived[left]["membership"] == "leave"
    await alice.get("/initialSync", params={"limit": -1}, expect=(400, "M_INVALID_PARAM"))


async def test_who_has_no_rooms_has_a_whole_state(server: Server) -> None:
    alice = await server.register("alice")
    assert (await initial(alice))["rooms"] == []


async def test_nothing_is_lost_between_the_state_and_the_events(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    rooms = [await alice.create_room(preset="public_chat") for _ in range(3)]
    for room in rooms:
        await bob.join(room)
    sent: list[str] = []

    async def talk() -> None:
        sent.extend([await alice.send(rooms[number % 3], str(number)) for number in range(30)])

    talking = asyncio.create_task(talk())
    await asyncio.sleep(0)
    whole = await initial(bob, limit=100)
    await talking
    seen = [event["event_id"] for room in whole["rooms"] for event in room["messages"]["chunk"]]
    since = whole["end"]
    while True:
        chunk, since = await events(bob, since)
        if not chunk:
            break
        seen += [event["event_id"] for event in chunk if event["sender"] == alice.user_id]
    assert set(sent) <= set(seen)
    assert [event for event in seen if event in sent][-1] == sent[-1]


async def test_events_of_all_rooms_come_in_order_and_in_pages(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    rooms = [await alice.create_room(preset="public_chat") for _ in range(2)]
    for room in rooms:
        await bob.join(room)
    _, since = await events(bob)
    sent = [await alice.send(rooms[number % 2], str(number)) for number in range(130)]
    first, since = await events(bob, since)
    second, since = await events(bob, since)
    assert [event["event_id"] for event in (*first, *second)] == sent
    assert {event["room_id"] for event in first} == set(rooms)
    assert (await events(bob, since))[0] == []


async def test_events_tell_of_coming_and_going(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    _, since = await events(bob)
    room = await alice.create_room()
    await alice.send(room, "before")
    await alice.invite(room, bob)
    chunk, since = await events(bob, since)
    assert [event["content"]["membership"] for event in chunk] == ["invite"]
    await bob.join(room)
    await alice.send(room, "now")
    await alice.kick(room, bob)
    await alice.send(room, "after")
    chunk, since = await events(bob, since)
    kinds = [event["content"].get("membership") or event["content"].get("body") for event in chunk]
    assert [kind for kind in kinds if kind in ("join", "now", "leave", "after")][-3:] == [
        "join",
        "now",
        "leave",
    ]
    assert "after" not in kinds
    await bob.get("/events", params={"from": "s99999999999"}, expect=(400, "M_INVALID_PARAM"))
    await bob.get("/events", params={"from": "what"}, expect=(400, "M_INVALID_PARAM"))


async def test_who_waits_is_told(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    _, since = await events(bob)
    waiting = asyncio.create_task(events(bob, since, timeout=20_000))
    await asyncio.sleep(0.1)
    await bob.put("/user/{}/account_data/org.example", bob.user_id, json={})  # wakes, and is no event
    await asyncio.sleep(0.1)
    assert not waiting.done()
    sent = await alice.send(room, "hello")
    assert [event["event_id"] for event in (await waiting)[0]] == [sent]


async def test_the_ignored_are_not_heard(server: Server) -> None:
    """MOD-03."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(preset="public_chat")
    for user in (bob, carol):
        await user.join(room)
    ignored = {"ignored_users": {carol.user_id: {}, bob.user_id: {}}}  # nobody loses what they say themselves
    await bob.put("/user/{}/account_data/m.ignored_user_list", bob.user_id, json=ignored)
    _, since = await events(bob)
    await carol.send(room, "unheard")
    await carol.put_state(room, "m.room.member", {"membership": "join", "displayname": "C"}, carol.user_id)
    mine, hers = await bob.send(room, "mine"), await alice.send(room, "hers")
    elsewhere = await carol.create_room()
    await carol.invite(elsewhere, bob)
    chunk, _ = await events(bob, since)
    assert [event["event_id"] for event in chunk if event["type"] == "m.room.message"] == [mine, hers]
    assert [event["sender"] for event in chunk if event["type"] == "m.room.member"] == [carol.user_id]
    assert elsewhere not in {event["room_id"] for event in chunk}
    assert elsewhere not in {one["room_id"] for one in (await initial(bob))["rooms"]}


async def test_one_event_wherever_it_is(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    sent = await alice.send(room, "hello")
    assert (await alice.get("/events/{}", sent))["content"]["body"] == "hello"
    await bob.get("/events/{}", sent, expect=(404, "M_NOT_FOUND"))
    await bob.get("/events/{}", "$nothing", expect=(404, "M_NOT_FOUND"))


@pytest.mark.parametrize("path", ["/events", "/initialSync"])
async def test_a_token_is_needed(server: Server, path: str) -> None:
    await server.client.get(path, expect=(401, "M_MISSING_TOKEN"))
