"""Simplified sliding sync (MSC4186): what a room tells is made once for all who are told the same, and told nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from homeserver.graph.rooms.room import Room
from homeserver.sync.selection.selector import Candidates, RoomSelector
from homeserver.sync.types import SyncRequest
from tests.integration.sync.test_sliding import Connection, Reply, bodies, everything, keys
from tests.support.server import Server
from tests.support.user import User

LAZY = ["m.room.member", "$LAZY"]
ME = ["m.room.member", "$ME"]


async def meeting(server: Server, *names: str, **options: Any) -> tuple[str, list[User]]:
    """A room in which all of them are."""
    users = [await server.register(name) for name in names]
    room = await users[0].create_room(preset="public_chat", **options)
    for user in users[1:]:
        await user.join(room)
    return room, users


def about(room: str, answer: Reply) -> Reply:
    """What an answer tells of a room, without what is the reader's own."""
    told = dict(answer["rooms"][room])
    for own in ("notification_count", "highlight_count"):
        told.pop(own, None)
    for event in told.get("timeline", ()):
        event.get("unsigned", {}).pop("age", None)
    return told


async def test_a_room_is_looked_at_once_for_all_who_wake_for_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, users = await meeting(server, "alice", "bob", "carol", "dave", name="Garden")
    wishes = ([ME], [["m.room.create", ""], LAZY, ME], [["*", "*"]])
    clients = [Connection(user, everything(20, wish)) for user, wish in zip(users[1:], wishes, strict=True)]
    for client in clients:
        await client.sync()
    await users[0].send(room, "one")  # with it the second one learns who alice is
    for client in clients:
        await client.sync()
    await users[0].send(room, "two")
    looked: list[int] = []
    updates = RoomSelector.updates

    async def counted(
        self: RoomSelector,
        request: SyncRequest,
        candidates: Candidates,
        among: Mapping[int, Room],
        *others: Any,
    ) -> Any:
        looked.append(len(among))
        return await updates(self, request, candidates, among, *others)

    monkeypatch.setattr(RoomSelector, "updates", counted)
    answers = [about(room, await client.sync()) for client in clients]
    assert sum(looked) == 1
    assert bodies(answers[0]) == ["two"]
    assert answers[0] == answers[1] == answers[2]
    assert (answers[0]["num_live"], answers[0]["limited"], answers[0]["lists"]) == (1, False, ["all"])


async def test_counts_and_is_dm_stay_the_readers_own(server: Server) -> None:
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol", name="Garden")
    clients = [Connection(user, everything(20)) for user in (bob, carol)]
    for client in clients:
        await client.sync()
    await bob.put(
        f"/_matrix/client/v3/user/{bob.user_id}/account_data/m.direct", json={alice.user_id: [room]}
    )
    event = await alice.send(room, "read by carol")
    await carol.post(f"/_matrix/client/v3/rooms/{room}/receipt/m.read/{event}", json={})
    await alice.send(room, "unread")
    told = [(await client.sync())["rooms"][room] for client in clients]
    assert [bodies(each) for each in told] == [["read by carol", "unread"]] * 2
    assert [each["notification_count"] for each in told] == [2, 1]
    assert [each.get("is_dm") for each in told] == [True, None]


async def test_members_are_told_to_those_who_lack_them(server: Server) -> None:
    room, (alice, bob, carol, dave) = await meeting(server, "alice", "bob", "carol", "dave", name="Garden")
    lazy, plain = everything(20, [LAZY]), everything(20)
    clients = [Connection(bob, lazy), Connection(carol, plain), Connection(dave, plain)]
    for client in clients:
        await client.sync()
    await alice.send(room, "with which bob learns who alice is")
    await clients[0].sync()
    await clients[1].sync()
    await clients[2].sync()
    clients[2].lists = lazy
    for client in clients:
        assert (await client.sync())["rooms"].get(room, {}).get("required_state", []) == []
    member = ("m.room.member", alice.user_id)
    for number, lacking in enumerate(({member}, set[tuple[str, str]]())):
        await alice.send(room, f"to all three, {number}")
        answers = [(await client.sync())["rooms"][room] for client in clients]
        assert [bodies(each) for each in answers] == [[f"to all three, {number}"]] * 3
        assert [keys(each) for each in answers] == [set(), set(), lacking]


async def test_who_sent_it_is_told_the_transaction_and_nobody_else(server: Server) -> None:
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol", name="Garden")
    clients = [Connection(user, everything(20)) for user in (bob, alice, carol)]
    for client in clients:
        await client.sync()
    await alice.send(room, "mine")
    told = [(await client.sync())["rooms"][room]["timeline"][-1]["unsigned"] for client in clients]
    assert ["transaction_id" in each for each in told] == [False, True, False]


async def test_who_ignores_somebody_or_came_late_is_told_their_own(server: Server) -> None:
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol", name="Garden")
    dave = await server.register("dave")
    ignored: Reply = {"ignored_users": {alice.user_id: {}}}
    path = f"/_matrix/client/v3/user/{carol.user_id}/account_data/m.ignored_user_list"
    await carol.put(path, json=ignored)
    clients = [Connection(user, everything(20)) for user in (bob, carol, dave)]
    for client in clients:
        await client.sync()
    await alice.send(room, "before dave")
    await dave.join(room)
    await alice.send(room, "after dave")
    told = [(await client.sync())["rooms"].get(room, {}) for client in clients]
    assert bodies(told[0]) == ["before dave", "after dave"]
    assert bodies(told[1]) == []
    assert told[2]["initial"] is True
    await alice.send(room, "to whom it concerns")
    told = [(await client.sync())["rooms"].get(room, {}) for client in clients]
    assert [bodies(each) for each in told] == [["to whom it concerns"], [], ["to whom it concerns"]]


async def test_what_is_redacted_is_told_to_nobody_any_more(server: Server) -> None:
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol", name="Garden")
    clients = [Connection(user, everything(20)) for user in (bob, carol)]
    for client in clients:
        await client.sync()
    event = await alice.send(room, "secret")
    assert bodies((await clients[0].ask())["rooms"][room]) == ["secret"]
    await alice.put(f"/_matrix/client/v3/rooms/{room}/redact/{event}/r1", json={})
    for client in clients:
        told = (await client.ask())["rooms"][room]["timeline"]
        assert [each["content"] for each in told if each["type"] == "m.room.message"] == [{}]


async def test_state_that_changes_is_told_to_those_who_want_it(server: Server) -> None:
    room, (alice, bob, carol) = await meeting(server, "alice", "bob", "carol", name="Garden")
    topic = ["m.room.topic", ""]
    clients = [Connection(bob, everything(20)), Connection(carol, everything(20, [topic]))]
    for client in clients:
        await client.sync()
    await alice.put(f"/_matrix/client/v3/rooms/{room}/state/m.room.topic", json={"topic": "Plants"})
    told = [(await client.sync())["rooms"][room] for client in clients]
    assert [keys(each) for each in told] == [set(), {("m.room.topic", "")}]
