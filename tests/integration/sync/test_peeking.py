"""Looking into rooms without `/sync`: CHECKLIST SYNC-24."""

import asyncio
from typing import Any

from tests.support.server import Server
from tests.support.user import User

INITIAL = "/rooms/{}/initialSync"
OPEN = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}


def bodies(events: list[dict[str, Any]]) -> list[Any]:
    return [event["content"].get("body", event["type"]) for event in events]


async def events(user: User, room: str, start: str | None, **params: Any) -> dict[str, Any]:
    query = {"room_id": room, "from": start, **params}
    return dict(await user.get("/events", params=query))


async def test_a_room_as_it_is_now(server: Server) -> None:
    """SYNC-24: state, the newest events, account data."""
    alice = await server.register("alice")
    room = await alice.create_room(name="Name", visibility="public")
    for n in range(3):
        await alice.send(room, f"{n}")
    await alice.put("/user/{}/rooms/{}/tags/m.favourite", alice.user_id, room, json={"order": 0.5})
    found = await alice.get(INITIAL, room, params={"limit": 2})
    assert (found["room_id"], found["membership"], found["visibility"]) == (room, "join", "public")
    assert bodies(found["messages"]["chunk"]) == ["1", "2"]
    assert {"m.room.name", "m.room.create", "m.room.member"} <= {e["type"] for e in found["state"]}
    assert found["account_data"] == [{"type": "m.tag", "content": {"tags": {"m.favourite": {"order": 0.5}}}}]
    older = await alice.messages(room, from_=found["messages"]["start"], limit=1)
    assert bodies(older["chunk"]) == ["0"]
    assert (await events(alice, room, found["messages"]["end"], timeout=0))["chunk"] == []


async def test_a_stranger_peeks_into_what_is_open_to_the_world(server: Server) -> None:
    """SYNC-24, PEEK-01: the past, the present, and what comes."""
    alice, carol = await server.register("alice"), await server.register("carol")
    room = await alice.create_room(preset="private_chat", initial_state=[OPEN])
    await alice.send(room, "before")
    found = await carol.get(INITIAL, room)
    assert "membership" not in found
    assert bodies(found["messages"]["chunk"])[-1] == "before"
    token = found["messages"]["end"]
    listening = asyncio.create_task(events(carol, room, token, timeout=30_000))
    await asyncio.sleep(0)
    sent = await alice.send(room, "news")
    news = await asyncio.wait_for(listening, 60)
    assert [event["event_id"] for event in news["chunk"]] == [sent]
    assert news["chunk"][0]["room_id"] == room
    assert (await events(carol, room, news["end"], timeout=1))["chunk"] == []
    again = await events(carol, room, token, timeout=30_000)
    assert bodies(again["chunk"]) == ["news"]


async def test_peeking_ends_where_the_room_closes(server: Server) -> None:
    """SYNC-24: and a room that was never open shows nothing."""
    alice, carol = await server.register("alice"), await server.register("carol")
    closed = await alice.create_room(preset="private_chat")
    await carol.get(INITIAL, closed, expect=(403, "M_FORBIDDEN"))
    await carol.get("/events", params={"room_id": closed}, expect=(403, "M_FORBIDDEN"))
    room = await alice.create_room(preset="private_chat", initial_state=[OPEN])
    token = (await carol.get(INITIAL, room))["messages"]["end"]
    await alice.put_state(room, OPEN["type"], {"history_visibility": "shared"})
    await alice.send(room, "secret")
    await carol.get("/events", params={"room_id": room, "from": token}, expect=(403, "M_FORBIDDEN"))


async def test_who_has_left_sees_the_room_as_they_left_it(server: Server) -> None:
    """SYNC-24."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", topic="old")
    await bob.join(room)
    await bob.leave(room)
    await alice.put_state(room, "m.room.topic", {"topic": "secret"})
    await alice.send(room, "secret")
    found = await bob.get(INITIAL, room)
    assert found["membership"] == "leave"
    assert "secret" not in str(found)
    assert "old" in str(found["state"])
    assert (await events(bob, room, found["messages"]["end"], timeout=0))["chunk"] == []


async def test_nonsense_is_refused(server: Server) -> None:
    """SYNC-24."""
    alice = await server.register("alice")
    room = await alice.create_room()
    bad = {"room_id": room, "from": "nonsense"}
    await alice.get("/events", params=bad, expect=(400, "M_INVALID_PARAM"))
    await alice.get(INITIAL, room, params={"limit": -1}, expect=(400, "M_INVALID_PARAM"))
