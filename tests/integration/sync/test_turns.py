"""How long others wait for one turn of the event loop does not grow with what somebody asks for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User
from tests.support.watchdog import Watchdog

SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
TRIES = 4
FEW, MANY = 60, 480


@pytest.fixture(scope="module")
async def busy(server: Server) -> User:
    """Somebody in many rooms, of which one has many members."""
    busy = await server.register("busy")
    for _ in range(MANY // 10):
        await asyncio.gather(*(busy.create_room(preset="public_chat") for _ in range(10)))
    return busy


async def longest(watchdog: Watchdog, ask: Callable[[], Awaitable[Any]]) -> float:
    """CPU seconds of the longest turn while it is answered; the best of some tries."""
    seen = []
    for _ in range(TRIES):
        watchdog.longest = 0.0
        await ask()
        seen.append(watchdog.longest)
    return min(seen)


async def test_a_sync_of_many_rooms_takes_no_longer_turns(busy: User, watchdog: Watchdog) -> None:
    """SYNC-01"""
    rooms = (await busy.get("/joined_rooms"))["joined_rooms"]
    few = {"room": {"rooms": rooms[:FEW]}}

    async def of_all(number: int = 1) -> None:
        replies = await asyncio.gather(*(busy.get("/sync") for _ in range(number)))
        assert all(len(reply["rooms"]["join"]) == len(rooms) for reply in replies)

    of_few = await longest(watchdog, lambda: busy.get("/sync", params={"filter": few}))
    assert await longest(watchdog, of_all) < 3 * of_few
    assert await longest(watchdog, lambda: of_all(5)) < 3 * of_few


ROOMS, LARGE = 16, 200
"""Rooms, and state events that each is created with."""
SHORT = 0.025
"""Seconds of CPU that are a short turn, however many times another one it is."""


@pytest.fixture(scope="module")
async def wide(server: Server) -> User:
    """Somebody in rooms with as much state as whoever creates a room may give it."""
    wide = await server.register("wide")
    state = [{"type": "m.x", "state_key": str(number), "content": {}} for number in range(LARGE)]
    for _ in range(ROOMS):
        await wide.create_room(initial_state=state)
    return wide


@pytest.mark.parametrize(
    ("cache", "full_state"), [("cold", False), ("full", False), ("full", True), ("warm", True)]
)
async def test_nor_does_a_sync_of_rooms_with_much_state(
    server: Server, wide: User, watchdog: Watchdog, cache: str, full_state: bool
) -> None:
    """SYNC-01, SYNC-08"""
    assert server.app is not None
    core = server.app.core
    rooms = (await wide.get("/joined_rooms"))["joined_rooms"]
    since = (await wide.get("/sync"))["next_batch"]

    async def ask(names: list[str]) -> None:
        if cache != "warm":
            core.events.clear()
        query = {"filter": {"room": {"rooms": names}}, "since": since, "full_state": "true"}
        if not full_state:
            del query["since"], query["full_state"]
        reply = await wide.get("/sync", params=query)
        told = reply["rooms"]["join"].values()
        assert len(told) == len(names)
        assert all(len(room["state"]["events"]) + len(room["timeline"]["events"]) > LARGE for room in told)

    limit = core.memory.limit
    if cache == "full":
        core.memory.limit = core.memory.used
    try:
        of_few = await longest(watchdog, lambda: ask(rooms[:4]))
        assert await longest(watchdog, lambda: ask(rooms)) < max(3 * of_few, SHORT)
    finally:
        core.memory.limit = limit


async def test_nor_does_a_sliding_sync_of_them(server: Server, wide: User, watchdog: Watchdog) -> None:
    assert server.app is not None
    core = server.app.core
    count = len((await wide.get("/joined_rooms"))["joined_rooms"])

    async def ask(rooms: int) -> None:
        core.events.clear()
        wanted = {"ranges": [[0, rooms - 1]], "timeline_limit": 1, "required_state": [["*", "*"]]}
        reply = await wide.post(SLIDING, json={"lists": {"a": wanted}})
        assert len(reply["rooms"]) == rooms
        assert all(len(room["required_state"]) > LARGE for room in reply["rooms"].values())

    of_few = await longest(watchdog, lambda: ask(4))
    assert await longest(watchdog, lambda: ask(count)) < max(3 * of_few, SHORT)
