"""Fields of profiles in `/sync`, as MSC4429 has them."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from homeserver.profiles import stream as profile_stream
from homeserver.sync.log_slices import LogSlices
from tests.support.server import Server
from tests.support.user import User

USERS = "org.matrix.msc4429.users"
FILTER = "org.matrix.msc4429.profile_fields"
STATUS, NOTE = "m.status", "org.example.note"
Profiles = dict[str, dict[str, Any]]


@pytest.fixture(params=["server", "two_servers_processes"])
def some_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def asking(*fields: str) -> dict[str, Any]:
    return {FILTER: {"ids": list(fields)}}


def told(answer: dict[str, Any]) -> Profiles:
    """What an answer says of profiles."""
    return {user: each["profile_updates"] for user, each in answer.get(USERS, {}).items()}


async def say(user: User, field: str, value: Any) -> None:
    await user.put("/profile/{}/{}", user.user_id, field, json={field: value})


class Client:
    """What a client makes of the answers it gets."""

    def __init__(self, user: User, *fields: str) -> None:
        self.user = user
        self.wanted = asking(*fields)
        self.since: str | None = None
        self.known: Profiles = {}

    async def sync(self, **options: Any) -> Profiles:
        answer = await self.user.sync(since=self.since, filter=self.wanted, **options)
        self.since = answer["next_batch"]
        for user_id, updates in (found := told(answer)).items():
            known = self.known.setdefault(user_id, {})
            known.update(updates)
            for field in [field for field, value in known.items() if value is None]:
                del known[field]
        return found

    async def news(self) -> Profiles:
        """The next that is told; other news may come before."""
        async with asyncio.timeout(20):
            while not (found := await self.sync(timeout=30_000)):
                pass
        return found

    async def whole(self) -> Profiles:
        """What is known when nothing more is to be told."""
        await self.sync()
        for _ in range(50):
            if self.since is not None and self.since.count("_") == 2:
                await self.sync()
        return {user_id: fields for user_id, fields in self.known.items() if fields}


async def pair(server: Server) -> tuple[User, User, str]:
    """Two who are in a room, which is new."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    return alice, bob, room


async def test_the_first_answer_has_the_fields_that_are_asked_for(some_server: Server) -> None:
    """MSC4429, "Scope of profile updates"."""
    alice, bob, _ = await pair(some_server)
    stranger = await some_server.register("stranger")
    for user in (alice, bob, stranger):
        await say(user, STATUS, {"text": user.localpart})
    await say(bob, NOTE, "x")
    found = told(await alice.sync(since=None, filter=asking(STATUS, "org.example.unset")))
    assert found == {user.user_id: {STATUS: {"text": user.localpart}} for user in (alice, bob)}
    features = (await some_server.client.get("/_matrix/client/versions"))["unstable_features"]
    assert features["org.matrix.msc4429"] is True


async def test_who_does_not_ask_is_told_nothing(some_server: Server) -> None:
    alice, bob, _ = await pair(some_server)
    await say(bob, STATUS, "here")
    for wanted in ({}, {FILTER: {}}, asking()):
        assert USERS not in await alice.sync(since=None, filter=wanted)
    since = (await alice.sync(since=None))["next_batch"]
    await say(bob, STATUS, "away")
    assert USERS not in await alice.sync(since=since)
    await alice.sync(since=since, filter={FILTER: {"ids": "m.status"}}, expect=(400, "M_BAD_JSON"))
    await alice.sync(since=since, filter=asking(*map(str, range(101))), expect=(400, "M_BAD_JSON"))


async def test_the_latest_of_several_changes_is_told(some_server: Server) -> None:
    """Only of the fields that changed; null where one was removed, and where it was set to null."""
    alice, bob, _ = await pair(some_server)
    await say(bob, "displayname", "Bob")
    client = Client(alice, STATUS, NOTE, "displayname")
    await client.whole()
    await say(bob, STATUS, "one")
    await say(bob, STATUS, {"text": "two"})
    assert await client.sync(timeout=20_000) == {bob.user_id: {STATUS: {"text": "two"}}}
    await say(bob, STATUS, None)
    await say(bob, NOTE, 1)
    await bob.delete("/profile/{}/{}", bob.user_id, NOTE)
    await client.whole()
    assert client.known[bob.user_id] == {"displayname": "Bob"}
    assert await client.sync() == {}


async def test_a_change_ends_a_long_poll(some_server: Server) -> None:
    """Also of one's own profile, for one's other devices."""
    alice, bob, _ = await pair(some_server)
    client = Client(alice, STATUS)
    await client.whole()
    for user in (bob, alice):
        waiting = asyncio.create_task(client.news())
        await say(user, STATUS, "here")
        assert await waiting == {user.user_id: {STATUS: "here"}}


async def test_users_of_other_rooms_are_told_of_when_they_come_into_sight(some_server: Server) -> None:
    """Whoever joins, and those who are in a room that is joined; not before, and not again with a new name."""
    alice, bob, room = await pair(some_server)
    carol, dave = await some_server.register("carol"), await some_server.register("dave")
    elsewhere = await dave.create_room(preset="public_chat")
    client = Client(alice, STATUS)
    await client.whole()
    for user in (carol, dave):
        await say(user, STATUS, user.localpart)
    assert await client.sync() == {}
    await carol.join(room)
    await alice.join(elsewhere)
    found = await client.whole()
    assert found == {user.user_id: {STATUS: user.localpart} for user in (carol, dave)}
    await say(carol, "displayname", "Carol")
    assert await client.sync() == {}
    await carol.leave(room)
    await client.sync()
    await say(carol, STATUS, "gone")
    assert await client.sync() == {}
    await carol.delete("/profile/{}/{}", carol.user_id, STATUS)
    await carol.join(room)
    assert await client.sync() == {carol.user_id: {STATUS: None}}
    assert bob.user_id not in client.known


async def test_of_who_has_ended_nothing_is_left(some_server: Server) -> None:
    alice, bob, _ = await pair(some_server)
    await say(bob, STATUS, "here")
    client = Client(alice, STATUS, NOTE)
    assert await client.whole() == {bob.user_id: {STATUS: "here"}}
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": bob.user_id}}
    await bob.post("/account/deactivate", json={"auth": {**auth, "password": bob.password}})
    async with asyncio.timeout(20):
        while client.known[bob.user_id]:
            await client.sync(timeout=1_000)


@pytest.mark.parametrize("recent", [True, False])
async def test_what_does_not_fit_comes_in_the_next_answers(
    server: Server, monkeypatch: pytest.MonkeyPatch, recent: bool
) -> None:
    """By number of users and by bytes; changes, people who come, and everybody where memory does not reach back."""
    alice = await server.register("alice")
    others = [await server.register(f"bob{number}") for number in range(7)]
    room = await alice.create_room(preset="public_chat")
    for user in others[:4]:
        await user.join(room)
        await say(user, STATUS, "one")
    first = {user.user_id: {STATUS: "one"} for user in others[:4]}
    for limit, value in (("MAX_USERS", 2), ("MAX_BYTES", 30), ("MAX_MEMBERS", 1)):
        monkeypatch.setattr(profile_stream, limit, value)
    client = Client(alice, STATUS)
    assert len(await client.sync()) < len(first)
    await say(others[0], STATUS, "two")  # it has been told already, and is told again
    assert await client.whole() == {**first, others[0].user_id: {STATUS: "two"}}
    for user in others:
        await say(user, STATUS, "three")
    for user in others[4:]:
        await user.join(room)
    await others[1].delete("/profile/{}/{}", others[1].user_id, STATUS)
    expected = {user.user_id: {STATUS: "three"} for user in others if user is not others[1]}
    with monkeypatch.context() as patch:
        if not recent:
            patch.setattr(LogSlices, "between", lambda *_: None)
        assert len(await client.sync()) < len(expected)
    assert await client.whole() == expected
    assert await Client(alice, STATUS).whole() == expected


async def test_what_the_log_says_costs_no_query(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """And for who does not ask nothing is looked at."""
    alice, bob, room = await pair(server)
    client, plain = Client(alice, STATUS), Client(alice)
    await client.whole()
    await plain.whole()

    async def refused(*_: Any) -> Any:
        raise AssertionError("the database is asked")

    for name in ("find_shown", "find_near"):
        monkeypatch.setattr(profile_stream.store, name, refused)
    await bob.send(room, "hello")
    await say(bob, STATUS, "here")
    assert await client.sync() == {bob.user_id: {STATUS: "here"}}
    assert server.app is not None
    monkeypatch.setattr(profile_stream, "latest", refused)
    monkeypatch.setattr(profile_stream, "_Answer", refused)
    assert await plain.sync() == {}
    assert told(await alice.sync(since=None, filter={})) == {}


@pytest.mark.parametrize("seed", range(3))
async def test_the_sum_of_answers_is_the_first_one(two_servers_processes: Server, seed: int) -> None:
    """Whoever comes, goes and changes what they say, at either of two processes."""
    chance = random.Random(seed)  # reproducible
    people = [await two_servers_processes.register(f"p{number}") for number in range(4)]
    rooms = [await people[0].create_room(preset="public_chat") for _ in range(2)]
    clients = [Client(user, STATUS, NOTE) for user in people[:2]]
    inside: set[tuple[int, str]] = {(0, room) for room in rooms}
    for step in range(40):
        number = chance.randrange(4)
        user, room, field = people[number], chance.choice(rooms), chance.choice([STATUS, NOTE])
        act = chance.choice(["say", "say", "unset", "move"])
        if act == "say":
            await say(user, field, {"step": step})
        elif act == "unset":
            await user.delete("/profile/{}/{}", user.user_id, field)
        elif (number, room) in inside:
            await user.leave(room)
            inside.remove((number, room))
        elif room in {each for _, each in inside}:
            await user.join(room)
            inside.add((number, room))
        for client in clients:
            if chance.random() < 0.4:
                await client.sync()
    for number, client in enumerate(clients):
        near = {number} | {other for other, room in inside if (number, room) in inside}
        fresh = await Client(client.user, STATUS, NOTE).whole()
        known = await client.whole()
        seen = {people[each].user_id for each in near}
        assert {user_id: fields for user_id, fields in known.items() if user_id in seen} == fresh
        assert fresh.keys() <= seen
