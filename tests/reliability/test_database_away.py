"""The database is away for 1, 5 and 30 seconds under every background loop; somebody innocent is served meanwhile.

The server runs in this process; between it and PostgreSQL stands a relay that can be closed. All periodic work runs every
tenth of a second, so that each piece of it fails many times.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import psycopg.conninfo
import pytest

from homeserver.runtime.clock import FakeEntropy
from homeserver.runtime.periodic import PeriodicRunner
from tests.support import server as support_server
from tests.support.postgres import Postgres
from tests.support.relay import Relay
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until


@pytest.fixture
async def relay(database: str) -> AsyncIterator[Relay]:
    relay = Relay(psycopg.conninfo.conninfo_to_dict(database))
    await relay.open()
    yield relay
    relay.close()


@pytest.fixture
async def relayed(database: str, relay: Relay, tmp_path: Path, postgres: Postgres) -> AsyncIterator[Server]:
    dsn = psycopg.conninfo.make_conninfo(database, host="127.0.0.1", port=relay.port)
    async with support_server.run(dsn, tmp_path) as running:
        yield running


class Bystander:
    """Asks for what needs no database, all the time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.slowest = 0.0
        self.statuses: list[int] = []

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession() as http:
            while True:
                began = loop.time()
                async with http.get(f"{self._url}/_matrix/client/versions") as answer:
                    self.statuses.append(answer.status)
                self.slowest = max(self.slowest, loop.time() - began)
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def all_work_is_frequent(server: Server) -> AsyncIterator[PeriodicRunner]:
    """A second runner of all that is declared, every tenth of a second."""
    app = server.app
    assert app is not None
    hold = next(item for item in app.periodic._items if item.name == "database.claim")
    items = [
        replace(item, interval=0.1, first=0.05, once_in_cluster=False)
        for item in (*app.features.periodic(), hold)
    ]
    await app.periodic.stop()
    runner = PeriodicRunner(items, app.core.db, app.clock, FakeEntropy())
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop()


async def unfinished_business(server: Server, alice: User) -> str:
    """Something for each loop to do while the database is away. Returns a room."""
    room = str((await alice.post("/createRoom", json={}))["room_id"])
    await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 300})
    await alice.put("/presence/{}/status", alice.user_id, json={"presence": "online"})
    return room


@pytest.mark.reliability
@pytest.mark.parametrize("seconds", [1, 5, pytest.param(30, marks=pytest.mark.load)])
async def test_the_database_is_away(relayed: Server, relay: Relay, seconds: int) -> None:
    server = relayed
    assert server.app is not None
    alice = await server.register("alice")
    async with all_work_is_frequent(server) as runner:
        names = [item.name for item in runner._items]

        async def all_have_run() -> bool:
            return all(runner.figures(name).succeeded for name in names)

        await until(all_have_run)
        room = await unfinished_business(server, alice)
        bystander = Bystander(server.url)
        standing_by = asyncio.create_task(bystander.run())
        relay.close()
        await asyncio.sleep(seconds)
        need_it = ("jobs", "accounts.housekeeping", "log.forgetting", "to_device.bound", "database.claim")

        async def have_failed() -> bool:
            return all(runner.figures(name).failing for name in need_it)

        await until(have_failed)
        await relay.open()
        before = {name: runner.figures(name).succeeded for name in names}

        async def all_run_again() -> bool:
            return all(runner.figures(name).succeeded > before[name] for name in names)

        await until(all_run_again)
        assert all(runner.figures(name).failing == 0 for name in names)
        await alice.put("/rooms/{}/send/m.room.message/1", room, json={"msgtype": "m.text", "body": "back"})
        standing_by.cancel()
        assert set(bystander.statuses) == {200}
        assert bystander.slowest < 2.0
        async with aiohttp.ClientSession() as http, http.get(f"{server.url}/health") as answer:
            assert (await answer.json())["status"] == "ok"

        async def nobody_types() -> bool:
            seen = await alice.get("/sync")
            ephemeral = seen["rooms"]["join"][room].get("ephemeral", {}).get("events", [])
            return not any(e["content"]["user_ids"] for e in ephemeral if e["type"] == "m.typing")

        await until(nobody_types)
