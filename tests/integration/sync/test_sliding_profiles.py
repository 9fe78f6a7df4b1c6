"""Profiles in sliding sync (MSC4262): as they are when a room is new to the client, then what changes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from homeserver.profiles import sliding
from tests.support.server import Server
from tests.support.user import User

PATH = "/_matrix/client/v4/sync"
NAME = "org.matrix.msc4262.profiles"
Reply = dict[str, Any]


class Client:
    """A connection that wants profiles."""

    def __init__(self, user: User, *, lazy: bool = False, limit: int = 5, **wish: Any) -> None:
        state = {"include": [{"type": "m.room.create"}], "lazy_members": lazy}
        self.user = user
        self.wish: Reply = {"enabled": True, **wish}
        self.lists: Reply = {"all": {"range": [0, 99], "timeline_limit": limit, "required_state": state}}
        self.pos: str | None = None

    async def sync(self, timeout: int = 0) -> Reply:
        """Users that are told of."""
        body = {"lists": self.lists, "timeout": timeout, "extensions": {NAME: self.wish}}
        if self.pos is not None:
            body["pos"] = self.pos
        answer = await self.user.post(PATH, json=body)
        self.pos = answer["pos"]
        return dict(answer["extensions"].get(NAME, {"users": {}})["users"])


async def put(user: User, key: str, value: Any) -> None:
    await user.put("/profile/{}/{}", user.user_id, key, json={key: value})


def localpart(user: User) -> str:
    """What new accounts are called by."""
    return user.user_id[1:].partition(":")[0]


async def three(server: Server) -> tuple[User, User, User, str]:
    """alice and bob share a room; carol is apart."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await put(alice, "org.example.tea", "green")
    await put(carol, "org.example.tea", "black")
    return alice, bob, carol, room


async def test_profiles_are_told_as_they_are_and_then_what_changes(server: Server) -> None:
    alice, bob, carol, _ = await three(server)
    client = Client(bob)
    first = await client.sync()
    assert first[alice.user_id] == {"updated": {"displayname": localpart(alice), "org.example.tea": "green"}}
    assert first[bob.user_id] == {"updated": {"displayname": localpart(bob)}}
    assert carol.user_id not in first
    assert await client.sync() == {}
    await put(alice, "org.example.tea", None)
    await put(carol, "org.example.tea", "white")
    assert await client.sync() == {alice.user_id: {"updated": {"org.example.tea": None}}}
    await alice.delete("/profile/{}/{}", alice.user_id, "org.example.tea")
    await put(bob, "org.example.mood", {"good": True})
    assert await client.sync() == {
        alice.user_id: {"removed": ["org.example.tea"]},
        bob.user_id: {"updated": {"org.example.mood": {"good": True}}},
    }


async def test_a_long_poll_ends_when_a_profile_changes(server: Server) -> None:
    alice, bob, _, _ = await three(server)
    client = Client(bob)
    await client.sync()
    waiting = asyncio.create_task(client.sync(timeout=30_000))
    await put(alice, "org.example.tea", "none")
    assert await waiting == {alice.user_id: {"updated": {"org.example.tea": "none"}}}


async def test_only_fields_that_are_wanted_are_told_and_more_when_more_are(server: Server) -> None:
    alice, bob, _, _ = await three(server)
    client = Client(bob, fields=["org.example.tea"])
    assert await client.sync() == {alice.user_id: {"updated": {"org.example.tea": "green"}}}
    await put(alice, "org.example.mood", "fine")
    assert await client.sync() == {}
    client.wish["fields"] = ["org.example.tea", "org.example.mood"]
    assert await client.sync() == {
        alice.user_id: {"updated": {"org.example.mood": "fine", "org.example.tea": "green"}}
    }
    assert await client.sync() == {}


async def test_who_comes_is_told_and_who_shares_no_room_any_longer_is_null(server: Server) -> None:
    _, bob, carol, room = await three(server)
    client = Client(bob, fields=["org.example.tea"])
    await client.sync()
    await carol.join(room)
    assert await client.sync() == {carol.user_id: {"updated": {"org.example.tea": "black"}}}
    await carol.post("/rooms/{}/leave", room, json={})
    assert await client.sync() == {carol.user_id: None}
    await put(carol, "org.example.tea", "none")
    assert await client.sync() == {}


async def test_a_new_room_brings_the_profiles_of_its_members(server: Server) -> None:
    _, bob, carol, _ = await three(server)
    client = Client(bob, fields=["org.example.tea"])
    await client.sync()
    other = await carol.create_room(preset="public_chat")
    await bob.join(other)
    assert await client.sync() == {carol.user_id: {"updated": {"org.example.tea": "black"}}}


async def test_where_members_are_loaded_lazily_those_are_told_who_are_shown(server: Server) -> None:
    alice, bob, carol, room = await three(server)
    await carol.join(room)
    for number in range(3):
        await alice.send(room, str(number))
    client = Client(bob, lazy=True, limit=2, fields=["org.example.tea"])
    assert await client.sync() == {alice.user_id: {"updated": {"org.example.tea": "green"}}}
    await carol.send(room, "hello")
    assert await client.sync() == {carol.user_id: {"updated": {"org.example.tea": "black"}}}


async def test_rooms_in_scope_alone_are_told_but_changes_of_everybody(server: Server) -> None:
    alice, bob, _, _ = await three(server)
    client = Client(bob, fields=["org.example.tea"], lists=[], rooms=[])
    assert await client.sync() == {}
    await put(alice, "org.example.tea", "red")
    assert await client.sync() == {alice.user_id: {"updated": {"org.example.tea": "red"}}}


async def test_what_does_not_fit_is_told_in_the_next_answers(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sliding, "MAX_USERS", 2)
    bob = await server.register("bob")
    others = []
    for number in range(5):
        other = await server.register(f"friend{number}")
        await put(other, "org.example.tea", number)
        await bob.join(await other.create_room(preset="public_chat"))
        others.append(other)
    client = Client(bob, fields=["org.example.tea"])
    told: Reply = {}
    for _ in range(6):
        told |= await client.sync()
    assert told == {
        other.user_id: {"updated": {"org.example.tea": number}} for number, other in enumerate(others)
    }
    for number, other in enumerate(others):  # more changes than one answer looks at: everything anew
        await put(other, "org.example.tea", -number)
    again: Reply = {}
    for _ in range(6):
        again |= await client.sync()
    assert again.keys() == told.keys()
    assert again[others[3].user_id] == {"updated": {"org.example.tea": -3}}


@pytest.mark.parametrize("wish", [{"fields": "tea"}, {"fields": ["x" * 256]}, {"fields": ["x"] * 101}])
async def test_what_is_too_much_or_malformed_is_refused(server: Server, wish: Reply) -> None:
    bob = await server.register("bob")
    body = {"extensions": {NAME: {"enabled": True, **wish}}}
    assert (await bob.post(PATH, json=body, expect=400))["errcode"] in ("M_INVALID_PARAM", "M_BAD_JSON")


async def test_versions_say_that_it_is_there(server: Server) -> None:
    bob = await server.register("bob")
    assert (await bob.get("/_matrix/client/versions"))["unstable_features"]["org.matrix.msc4262"] is True
