"""The primary of the database dies under two hosts, and its standby takes over: nothing acknowledged is lost.

Streaming replication, synchronous; the hosts name both databases (`target_session_attrs=read-write`). API-09
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from homeserver.storage import migrate
from tests.reliability.test_kill9 import World, _check
from tests.support.pg_hosts import PostgresHost, loopback_addresses
from tests.support.process import ConfiguredProcess
from tests.support.waiting import until

AWAY = 10.0
"""Seconds that clients may hear 503; what it takes to promote the standby is measured apart."""

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8"),
]


class Through(World):
    """Clients who go to both hosts by turns."""

    hosts: tuple[str, ...] = ()
    slowest = 0.0
    turn = 0

    async def register(self, name: str) -> str:
        body = {"username": name, "password": "a long password", "auth": {"type": "m.login.dummy"}}
        return str((await self.ask("POST", "/register", json=body))["access_token"])

    async def ask(self, method: str, path: str, token: str | None = None, **kwargs: Any) -> dict[str, Any]:
        began = time.monotonic()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        while True:
            self.turn += 1
            url = self.hosts[self.turn % len(self.hosts)] + "/_matrix/client/v3" + path
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                async with self.http.request(method, url, headers=headers, **kwargs) as response:
                    answer: dict[str, Any] = await response.json()
                    if response.status == 200:
                        self.slowest = max(self.slowest, time.monotonic() - began)
                        return answer
                    assert response.status == 503, (response.status, answer)
            await asyncio.sleep(0.05)


@pytest.fixture
def databases() -> Iterator[tuple[PostgresHost, PostgresHost]]:
    folder = Path(tempfile.mkdtemp(prefix="atrium-failover-"))
    folder.chmod(0o755)
    first, second = loopback_addresses(2)
    primary, standby = PostgresHost(folder / "a", [first]), PostgresHost(folder / "b", [second])
    try:
        primary.start()
        migrate.apply(primary.dsn)
        standby.follow(primary)
        yield primary, standby
    finally:
        standby.end()
        primary.end()
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_standby_takes_over_and_nothing_acknowledged_is_lost(
    databases: tuple[PostgresHost, PostgresHost], tmp_path: Path
) -> None:
    """API-09, SYNC-01"""
    primary, standby = databases
    dsn = primary.tcp(*primary.addresses, *standby.addresses)
    with contextlib.ExitStack() as stack:
        hosts = [
            stack.enter_context(
                ConfiguredProcess(
                    tmp_path / name,
                    dsn,
                    server={"signing_key_path": str(tmp_path / "signing.key")},
                    database={"shared": True},
                    media={"path": str(tmp_path / "media")},
                    rate_limits={"enabled": False},
                    log={"requests": False, "format": "json"},
                )
            )
            for name in ("a", "b")
        ]
        for host in hosts:
            await asyncio.to_thread(host.start)
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as http:
            world = Through(http, "")
            world.hosts = tuple(host.base_url for host in hosts)
            for number in range(5):
                world.tokens.append(await world.register(f"user{number}"))
                world.acknowledged.append([])
            room = {"preset": "public_chat"}
            world.room_id = (await world.ask("POST", "/createRoom", world.tokens[0], json=room))["room_id"]
            for token in world.tokens[1:]:
                await world.ask("POST", f"/join/{world.room_id}", token, json={})
            world.since = (await world.ask("GET", "/sync", world.tokens[-1]))["next_batch"]
            async with asyncio.TaskGroup() as tasks:
                senders = [tasks.create_task(world.sender(number)) for number in range(4)]
                tasks.create_task(world.listener(world.tokens[-1]))
                await asyncio.sleep(1.5)
                before, world.slowest = sum(map(len, world.acknowledged)), 0.0
                primary.kill9()
                began = time.monotonic()
                await asyncio.to_thread(standby.promote)
                promoted = time.monotonic() - began

                async def goes_on() -> bool:
                    return sum(map(len, world.acknowledged)) >= before + 100

                await until(goes_on, within=60.0)
                world.over = True
                await asyncio.wait(senders)
                world.quiet = True
            await _check(world)
            print(
                f"{before} messages before, {sum(map(len, world.acknowledged)) - before} after; promoted in {promoted:.2f} s, "
                f"the slowest request took {world.slowest:.2f} s"
            )
            assert world.slowest < promoted + AWAY
        async with await psycopg.AsyncConnection.connect(standby.dsn) as connection:
            row = await (await connection.execute("SELECT pg_is_in_recovery()")).fetchone()
        assert row == (False,)
