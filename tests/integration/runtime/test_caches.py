"""All caches of a server share one budget: what they count adds up, is about what they take, and may be little."""

import sys
from array import array
from typing import Any

import pytest

from homeserver.graph.read.pages import CachedRange
from homeserver.rooms.memberships import Membership, UserRooms
from homeserver.runtime.cache import MemoryBudget
from tests.support.server import Server

EXPECTED = {
    "events",
    "rooms",
    "memberships",
    "pages",
    "profiles",
    "sessions",
    "transactions",
    "related",
    "push_rules",
    "ignored_users",
}


def budget_of(server: Server) -> MemoryBudget:
    assert server.app is not None
    return server.app.core.memory


def check(memory: MemoryBudget) -> None:
    for cache in memory.caches:
        assert cache._sizes.keys() == cache._values.keys(), cache.name
        assert cache.size == sum(cache._sizes.values()), cache.name
        for key, value in cache._values.items():
            if isinstance(value, UserRooms | CachedRange):
                assert cache._sizes[key] == value.size, (cache.name, key)
    assert memory.used == sum(cache.size for cache in memory.caches)


async def use(server: Server) -> None:
    """Things that people do, whose answers depend on what is in memory."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await alice.put("/pushrules/global/content/{}", "tea", json={"actions": ["notify"], "pattern": "tea"})
    rooms = [await alice.create_room(preset="public_chat") for _ in range(3)]
    for room in rooms:
        await bob.join(room)
        sent = [await alice.send(room, f"{number}") for number in range(5)]
        page = await bob.messages(room, limit=3)
        assert [event["event_id"] for event in page["chunk"]] == sent[:1:-1]
    await bob.put("/profile/{}/{}", bob.user_id, "displayname", json={"displayname": "Robert"})
    assert (await alice.get("/profile/{}", bob.user_id))["displayname"] == "Robert"
    joined = (await bob.sync())["rooms"]["join"]
    assert joined.keys() == set(rooms)
    await bob.post("/rooms/{}/leave", rooms[0])
    assert sorted((await bob.get("/joined_rooms"))["joined_rooms"]) == sorted(rooms[1:])
    send = ("/rooms/{}/send/{}/{}", rooms[1], "m.room.message", "t")
    first = await alice.put(*send, json={"msgtype": "m.text", "body": "tea"})
    assert await alice.put(*send, json={"msgtype": "m.text", "body": "tea"}) == first
    await bob.post("/logout")
    await bob.get("/account/whoami", expect=401)


async def test_what_caches_count_adds_up(server: Server) -> None:
    await use(server)
    memory = budget_of(server)
    check(memory)
    assert {cache.name for cache in memory.caches if len(cache)} >= EXPECTED
    assert server.app is not None
    for projection in server.app.core.tail._projections:
        projection.reset()
    check(memory)


async def test_a_server_with_little_memory_answers_the_same(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = budget_of(server)
    monkeypatch.setattr(memory, "limit", 60_000)  # the server goes on with other tests
    memory.add(0)  # what those before have left goes now, not in one turn of the server
    before = memory.evicted
    await use(server)
    check(memory)
    assert memory.evicted > before + 50


def deep(value: Any, seen: set[int]) -> int:
    """Bytes of an object and all that it alone holds."""
    if id(value) in seen or isinstance(value, type):
        return 0
    seen.add(id(value))
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(deep(part, seen) for pair in value.items() for part in pair)
    if isinstance(value, tuple | frozenset):
        return size + sum(deep(part, seen) for part in value)
    slots = getattr(type(value), "__slots__", ())
    return size + sum(deep(getattr(value, name), seen) for name in slots)


@pytest.mark.parametrize("count", [1, 30, 2_000])
def test_what_is_counted_is_about_what_is_taken(count: int) -> None:
    rooms = {10**6 + nid: Membership(1, 10**7 + nid, False, 10**7 + nid) for nid in range(count)}
    page = CachedRange()
    page.nids = array("q", range(count))
    for value in (UserRooms(5, rooms), page):
        assert 0.4 < value.size / deep(value, set()) < 4
