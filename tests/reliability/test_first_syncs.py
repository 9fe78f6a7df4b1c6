"""Everybody comes back at once after a restart: nothing is in memory, and there are ten connections to the database."""

import asyncio
import statistics
from pathlib import Path

import pytest

from tests.support import server as support_server
from tests.support.server import Server
from tests.support.user import User

ROOMS, MESSAGES = 4, 3
TEXT = {"msgtype": "m.text", "body": "hi"}


async def somebody(server: Server, name: str) -> User:
    """Somebody in rooms of their own, with something in each."""
    user = await server.register(name)
    for number in range(ROOMS):
        room = await user.post("/createRoom", json={"preset": "public_chat"})
        for text in range(MESSAGES):
            await user.put(f"/rooms/{room['room_id']}/send/m.room.message/{number}.{text}", json=TEXT)
    return user


@pytest.mark.parametrize("people", [40, pytest.param(200, marks=pytest.mark.load)])
async def test_first_syncs_after_a_restart_are_answered_and_messages_beside_them(
    database: str, tmp_path: Path, people: int
) -> None:
    """Forty were enough to have every request refused after 15 s: each held a connection and waited for another one."""
    async with support_server.run(database, tmp_path) as server:
        tokens = []
        for start in range(0, people, 10):
            made = await asyncio.gather(*(somebody(server, f"user{start + n}") for n in range(10)))
            tokens += [user.token for user in made]
        writer = await somebody(server, "writer")
        room_id = (await writer.post("/createRoom", json={}))["room_id"]

    async with support_server.run(database, tmp_path) as server:
        loop = asyncio.get_running_loop()

        async def send(txn_id: str) -> float:
            start = loop.time()
            path = f"/rooms/{room_id}/send/m.room.message/{txn_id}"
            await server.client.put(path, token=writer.token, json=TEXT)
            return loop.time() - start

        await send("first")
        syncs = [asyncio.create_task(server.client.get("/sync", token=token)) for token in tokens]
        beside = []
        while not all(sync.done() for sync in syncs):
            beside.append(await send(f"beside{len(beside)}"))
        answers = await asyncio.gather(*syncs)
        took = [await send(f"alone{number}") for number in range(20)]
        assert all(len(answer["rooms"]["join"]) == ROOMS for answer in answers)
        assert server.app is not None
        assert server.app.core.db.nested == 0
        # The client under test shares the processor with the server, so the median and not the worst.
        assert statistics.median(beside) < statistics.median(took) + 0.2
