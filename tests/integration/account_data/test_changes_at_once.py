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
