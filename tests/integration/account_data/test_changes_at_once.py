"""What is read, changed and written back loses nothing when many do it at once: tags, push rules, profile fields."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.server import Server

MANY = 24


@pytest.fixture(params=["server", "two_servers_processes"])
def some_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


async def test_profile_fields(some_server: Server) -> None:
    """USER-03."""
    alice = await some_server.register("alice")
    keys = [f"com.example.f{number}" for number in range(MANY)]
    await asyncio.gather(*(alice.put("/profile/{}/{}", alice.user_id, k, json={k: k}) for k in keys))
    found = await alice.get("/profile/{}", alice.user_id)
    assert {key: found.get(key) for key in keys} == {key: key for key in keys}


async def test_tags(some_server: Server) -> None:
    """AD-04."""
    alice = await some_server.register("alice")
    room = await alice.create_room()
    keys = [f"u.{number}" for number in range(MANY)]
    path = "/user/{}/rooms/{}/tags/{}"
    await asyncio.gather(*(alice.put(path, alice.user_id, room, key, json={"order": 0.5}) for key in keys))
    tags = (await alice.get("/user/{}/rooms/{}/tags", alice.user_id, room))["tags"]
    assert tags == {key: {"order": 0.5} for key in keys}
    await asyncio.gather(*(alice.delete(path, alice.user_id, room, key) for key in keys))
    assert (await alice.get("/user/{}/rooms/{}/tags", alice.user_id, room))["tags"] == {}


async def test_push_rules(some_server: Server) -> None:
    """PUSH-13."""
    alice = await some_server.register("alice")
    since = (await alice.sync())["next_batch"]
    keys = [f"rule.{number}" for number in range(MANY)]
    rule = {"actions": ["notify"], "pattern": "tea"}
    path = "/pushrules/global/content/{}"
    await asyncio.gather(*(alice.put(path, key, json=rule) for key in keys))
    kept = (await alice.get("/pushrules/global/"))["content"]
    assert {each["rule_id"] for each in kept if not each["default"]} == set(keys)
    told = (await alice.sync(since=since))["account_data"]["events"]
    assert told == [{"type": "m.push_rules", "content": {"global": await alice.get("/pushrules/global/")}}]


async def test_receipts(some_server: Server) -> None:
    """EPH-01, EPH-06: of many at once those of the newest event stay, and who is told of several is told of it last."""
    alice, bob = await some_server.register("alice"), await some_server.register("bob")
    for _ in range(4):
        room = await alice.create_room(preset="public_chat")
        await bob.join(room)
        events = [await alice.send(room, str(number)) for number in range(MANY)]
        since = (await alice.sync())["next_batch"]
        kinds = {"m.read": "m.read", "m.fully_read": "m.fully_read"}
        await asyncio.gather(
            *(bob.post("/rooms/{}/receipt/{}/{}", room, kind, each) for each in events for kind in kinds),
            *(
                bob.post("/rooms/{}/read_markers", room, json=dict.fromkeys(kinds, each))
                for each in reversed(events)
            ),
        )
        marker = await bob.get("/user/{}/rooms/{}/account_data/m.fully_read", bob.user_id, room)
        assert marker == {"event_id": events[-1]}
        for start in (since, None):  # from memory and from the database
            reply = await alice.sync(since=start)
            [event] = reply["rooms"]["join"][room]["ephemeral"]["events"]
            assert list(event["content"]) == [events[-1]]
        await bob.post("/rooms/{}/receipt/m.read/{}", room, events[0])
        await bob.post("/rooms/{}/read_markers", room, json={"m.fully_read": events[0]})
        assert marker == await bob.get("/user/{}/rooms/{}/account_data/m.fully_read", bob.user_id, room)


async def test_filters(some_server: Server) -> None:
    """FILT-01: the first of a new user, all at once, and the same one many times."""
    for _ in range(4):
        alice = await some_server.register("alice")
        path = "/user/{}/filter"
        wanted = [{"room": {"timeline": {"limit": number}}} for number in range(1, MANY + 1)]
        made = await asyncio.gather(
            *(alice.post(path, alice.user_id, json=each) for each in [*wanted, *wanted])
        )
        ids = [each["filter_id"] for each in made]
        assert ids[:MANY] == ids[MANY:]
        assert len(set(ids)) == MANY
        for number, each in enumerate(ids[:MANY]):
            assert await alice.get("/user/{}/filter/{}", alice.user_id, each) == wanted[number]


async def test_types_of_account_data(some_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """AD-01: the bound holds for many at once; what is there can be changed beyond it."""
    if some_server.app is None:
        pytest.skip("the bound is set in this process")
    monkeypatch.setattr("homeserver.account_data.service.MAX_TYPES", 20)
    alice = await some_server.register("alice")
    path = "/user/{}/account_data/org.example.{}"
    answers = await asyncio.gather(
        *(alice.exchange("PUT", path, alice.user_id, str(n), json={"n": n}, expect=None) for n in range(40))
    )
    taken = [number for number, answer in enumerate(answers) if answer.status == 200]
    there = (await alice.sync(since=None))["account_data"]["events"]
    assert len([each for each in there if each["type"].startswith("org.example.")]) == len(taken)
    assert len(taken) in (19, 20)  # m.push_rules is not stored before it is changed
    refused = [answer for answer in answers if answer.status != 200]
    assert {answer.json["errcode"] for answer in refused} == {"M_RESOURCE_LIMIT_EXCEEDED"}
    await alice.put(path, alice.user_id, str(taken[0]), json={"n": -1})
    assert await alice.get(path, alice.user_id, str(taken[0])) == {"n": -1}


async def test_bytes_of_account_data(some_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """AD-01: one person does not fill the disk, in however many rooms and types; what is there can be made smaller."""
    if some_server.app is None:
        pytest.skip("the bound is set in this process")
    monkeypatch.setattr("homeserver.account_data.entries.MAX_BYTES", 100_000)
    alice = await some_server.register("alice")
    rooms = [await alice.create_room() for _ in range(2)]
    path = "/user/{}/rooms/{}/account_data/org.example.{}"

    async def put(room: str, kind: int, size: int) -> int:
        where = (alice.user_id, room, str(kind))
        return (await alice.exchange("PUT", path, *where, json={"x": "x" * size}, expect=None)).status

    statuses = await asyncio.gather(*(put(rooms[n % 2], n, 9_000) for n in range(20)))
    taken = [number for number, status in enumerate(statuses) if status == 200]
    assert {*statuses} == {200, 403}
    assert 10 <= len(taken) <= 11
    first = taken[0]
    assert await put(rooms[first % 2], first, 20_000) == 403
    assert await put(rooms[first % 2], first, 100) == 200
    assert await put(rooms[0], 100, 8_000) == 200
