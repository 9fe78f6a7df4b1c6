"""Rooms that a client has not known before: what it is told when its user joined, or joined and left, since the last sync."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.sync.log_slices import LogSlices
from tests.support.server import Server

HISTORY = "m.room.history_visibility"


def state_of(section: dict[str, Any], *, after: bool = False) -> dict[tuple[str, str], dict[str, Any]]:
    """What a client ends up with that takes the state first and the timeline then."""
    events = section["state_after" if after else "state"]["events"]
    if not after:
        events = events + [e for e in section["timeline"]["events"] if "state_key" in e]
    return {(e["type"], e["state_key"]): e["content"] for e in events}


def bodies(section: dict[str, Any]) -> list[str]:
    return [e["content"]["body"] for e in section["timeline"]["events"] if e["type"] == "m.room.message"]


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("after", [True, False])
async def test_a_room_joined_and_left_between_two_syncs_comes_with_its_state(
    server: Server, monkeypatch: pytest.MonkeyPatch, memory: bool, after: bool
) -> None:
    """SYNC-05, SYNC-14: as if it were new, up to the leave."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", name="Name", topic="Topic")
    for n in range(12):
        await alice.send(room, f"before {n}")
    await bob.sync()
    await bob.join(room)
    await alice.send(room, "while bob was in")
    await bob.leave(room)
    await alice.put_state(room, "m.room.topic", {"topic": "secret"})
    if not memory:
        monkeypatch.setattr(LogSlices, "between", lambda *_: None)
    section = (await bob.sync(use_state_after=after))["rooms"]["leave"][room]
    found = state_of(section, after=after)
    assert found["m.room.name", ""] == {"name": "Name"}
    assert found["m.room.topic", ""]["topic"] == "Topic"
    assert found["m.room.create", ""]["room_version"]
    assert found["m.room.member", alice.user_id]["membership"] == "join"
    assert found["m.room.member", bob.user_id]["membership"] == "leave"
    assert bodies(section)[-1] == "while bob was in"
    assert section["timeline"]["limited"] is True
    assert "secret" not in str(section)
    page = await bob.messages(room, from_=section["timeline"]["prev_batch"], limit=1)
    assert page["chunk"][0]["content"]["body"].startswith("before")


@pytest.mark.parametrize("memory", [True, False])
async def test_a_second_stay_between_two_syncs_is_told_whole(
    server: Server, monkeypatch: pytest.MonkeyPatch, memory: bool
) -> None:
    """SYNC-05: what has happened between the two stays, too; and if a ban came on top."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", name="First")
    await bob.join(room)
    await bob.sync()
    await bob.leave(room)
    await bob.sync()
    await alice.put_state(room, "m.room.name", {"name": "Second"})
    await bob.join(room)
    await bob.leave(room)
    await alice.put_state(room, "m.room.name", {"name": "secret"})
    await alice.ban(room, bob)
    if not memory:
        monkeypatch.setattr(LogSlices, "between", lambda *_: None)
    section = (await bob.sync(filter={"room": {"timeline": {"limit": 2}}}))["rooms"]["leave"][room]
    found = state_of(section)
    assert found["m.room.create", ""]["room_version"]
    assert found["m.room.member", bob.user_id]["membership"] == "ban"
    assert "secret" not in str(section)


@pytest.mark.parametrize("limit", [1, 20])
async def test_a_newly_joined_room_is_limited_unless_its_timeline_begins_with_the_room(
    server: Server, limit: int
) -> None:
    """SYNC-04: clients join timelines that are not limited to what they have of an earlier stay."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await alice.put_state(room, HISTORY, {"history_visibility": "joined"})
    for n in range(3):
        await alice.send(room, f"not for bob {n}")
    await bob.sync()
    await bob.join(room)
    timeline = (await bob.sync(filter={"room": {"timeline": {"limit": limit}}}))["rooms"]["join"][room][
        "timeline"
    ]
    # Of the past he sees what was said while the room was open to who joins later.
    assert timeline["events"][0]["type"] == ("m.room.member" if limit == 1 else "m.room.create")
    assert timeline["limited"] is (limit == 1)


async def test_a_newly_joined_room_whose_past_is_not_shown_is_limited(server: Server) -> None:
    """SYNC-04: because the reader may not see it, or a filter leaves it out."""
    alice, bob = await server.register("alice"), await server.register("bob")
    hidden = {"type": HISTORY, "content": {"history_visibility": "joined"}}
    room = await alice.create_room(preset="public_chat", initial_state=[hidden])
    open_room = await alice.create_room(preset="public_chat")
    await alice.send(open_room, "shown")
    await bob.sync()
    await bob.join(room)
    await bob.join(open_room)
    wish = {"room": {"timeline": {"types": ["m.room.message", "m.room.member"], "limit": 20}}}
    rooms = (await bob.sync(filter=wish))["rooms"]["join"]
    assert rooms[room]["timeline"]["limited"] is True
    assert rooms[open_room]["timeline"]["limited"] is True
    assert bodies(rooms[open_room]) == ["shown"]
    page = await bob.messages(open_room, from_=rooms[open_room]["timeline"]["prev_batch"], limit=50)
    assert page["chunk"][-1]["type"] == "m.room.create"
    assert not {e["event_id"] for e in page["chunk"]} & {
        e["event_id"] for e in rooms[open_room]["timeline"]["events"]
    }
    await bob.send(room, "from now on")
    assert (await bob.sync())["rooms"]["join"][room]["timeline"]["limited"] is False


async def test_a_timeline_is_cut_for_the_newest_shown_event_of_a_key_alone(server: Server) -> None:
    """SYNC-05: not for each that was followed by a hidden one, if what is shown at last is what stands."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", topic="first")
    await alice.send(room, "open")
    for topic, visibility in (("hidden", "joined"), ("shown", "shared")):
        if visibility == "joined":
            await alice.put_state(room, HISTORY, {"history_visibility": "joined"})
        await alice.put_state(room, "m.room.topic", {"topic": topic})
        await alice.put_state(room, HISTORY, {"history_visibility": "shared"})
    await bob.sync()
    await bob.join(room)
    for params in ({}, {"since": None}):
        section = (await bob.sync(filter={"room": {"timeline": {"limit": 50}}}, **params))["rooms"]["join"][
            room
        ]
        assert bodies(section) == ["open"], params
        assert section["timeline"]["events"][0]["type"] == "m.room.create"
        assert section["timeline"]["limited"] is False
        assert state_of(section)["m.room.topic", ""]["topic"] == "shown"
        assert "hidden" not in str(section["timeline"])


async def test_a_timeline_is_cut_where_a_hidden_event_stands(server: Server) -> None:
    """SYNC-05: else clients would end with the older one that is shown."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", topic="first")
    await alice.put_state(room, HISTORY, {"history_visibility": "joined"})
    await alice.put_state(room, "m.room.topic", {"topic": "stands, and is not shown as an event"})
    await alice.put_state(room, HISTORY, {"history_visibility": "shared"})
    await bob.sync()
    await bob.join(room)
    section = (await bob.sync(filter={"room": {"timeline": {"limit": 50}}}))["rooms"]["join"][room]
    assert state_of(section)["m.room.topic", ""]["topic"].startswith("stands")
    assert section["timeline"]["limited"] is True
