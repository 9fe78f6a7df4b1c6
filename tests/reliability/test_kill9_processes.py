"""Several processes of one host, of which any may be killed at any moment, also the one that writes for the others.

What was acknowledged is there, once and in order; positions have no gaps; who syncs hears everything, whichever process
answers; the initial sync has what the increments add up to; and the others go on at once.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from typing_extensions import override

from tests.reliability.test_kill9 import World, _check, _prepare
from tests.support.cluster import all_serve, leader_of, workers
from tests.support.process import HomeserverProcess
from tests.support.waiting import until_sync

KILLS = 12
LONGEST = 5.0
"""Seconds a client may be without an answer."""


class TimedWorld(World):
    """Remembers how long the slowest request took, with its repetitions."""

    slowest = 0.0

    async def ask(self, method: str, path: str, token: str | None = None, **kwargs: Any) -> dict[str, Any]:
        began = time.monotonic()
        answer = await super().ask(method, path, token, **kwargs)
        self.slowest = max(self.slowest, time.monotonic() - began)
        return answer


async def feed_gaps(server: HomeserverProcess) -> int:
    """Positions of the log that nobody can read."""
    socket = next(server.data.glob("run/**/.s.PGSQL.*"), None) or next(server.data.rglob(".s.PGSQL.*"))
    dsn = f"host={socket.parent} dbname=atrium user=atrium"
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        query = "SELECT max(position) - min(position) + 1 - count(*) FROM log_feed"
        row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return int(row[0])


class Spread(HomeserverProcess):
    """With a configuration file, which says how work is spread."""

    def __init__(self, data: Path, processes: int, spread: str) -> None:
        super().__init__(data, processes=processes)
        server = {"name": "localhost", "data_dir": str(data), "processes": processes, "spread": spread}
        listener = {"address": self.address, "port": self.port, "resources": ["client", "health"]}
        told = {
            "server": server,
            "listeners": [listener],
            "registration": {"enabled": True, "flows": [["dummy"]], "open_without_checks": True},
            "auth": {"password_hash": {"memory": "8K", "passes": 1, "parallelism": 1}},
            "rate_limits": {"enabled": False},
        }
        self.config = data.parent / "atrium.yaml"
        self.config.write_text(json.dumps(told))

    @override
    def command(self) -> list[str]:
        """See `HomeserverProcess.command`."""
        return [str(Path(sys.executable).with_name("atrium")), "serve", "--config", str(self.config)]


@pytest.mark.parametrize(("processes", "spread"), [(2, "evenly"), (4, "evenly"), (4, "as_needed")])
async def test_any_process_may_die_also_the_one_that_writes_for_the_others(
    tmp_path: Path, processes: int, spread: str
) -> None:
    """API-09, SYNC-01, SYNC-04"""
    chance = random.Random(processes)  # reproducible
    server = Spread(tmp_path / "data", processes, spread)
    with contextlib.closing(server):
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(until_sync, lambda: all_serve(server, processes), 60, 0.1)
        timeout = aiohttp.ClientTimeout(total=10)
        # A connection for each request: any process may be the one that answers.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            world = TimedWorld(session, server.base_url + "/_matrix/client/v3")
            await _prepare(world)
            world.slowest = 0.0
            async with asyncio.TaskGroup() as tasks:
                senders = [tasks.create_task(world.sender(number)) for number in range(4)]
                tasks.create_task(world.listener(world.tokens[-1]))
                for kill in range(KILLS):
                    await asyncio.sleep(chance.uniform(0.05, 0.5))
                    leader = leader_of(server.data)
                    others = [pid for pid in workers(server) if pid != leader]
                    victim = leader if kill % 2 == 0 else chance.choice(others)
                    assert victim is not None
                    os.kill(victim, signal.SIGKILL)
                    await asyncio.sleep(0.2)
                    await asyncio.to_thread(until_sync, lambda: all_serve(server, processes), 60, 0.1)
                world.over = True
                await asyncio.wait(senders)
                world.quiet = True
            await _check(world)
            assert await feed_gaps(server) == 0
            assert world.slowest < LONGEST
            output = server.last_output(100_000)
            assert "log.host_frame" not in output
            assert "log.host_positions_wrong" not in output
