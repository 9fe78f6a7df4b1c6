"""How long others wait for one turn of the event loop does not grow with what somebody asks for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User
from tests.support.watchdog import Watchdog

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
