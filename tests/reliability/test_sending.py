"""Processes that send to other servers are killed: everything arrives, and no transaction id has two contents."""

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from pathlib import Path

import pytest
from aiohttp import web

from tests.support import graph
from tests.support.graph import process
from tests.support.outbound import join, numbered, until
from tests.support.waiting import until as holds

pytestmark = pytest.mark.reliability

SERVERS = ("two", "three", "four")
SCRIPT = Path(__file__).with_name("sending_process.py")


class Receivers:
    """The other servers: slow now and then, refusing now and then, and the process may die before it hears."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, str], set[bytes]] = defaultdict(set)
        self.texts: dict[str, list[str]] = defaultdict(list)
        self._chance = random.Random(7)

    async def take(self, request: web.BaseRequest) -> web.Response:
        destination, txn_id = request.query["destination"], request.path
        body = await request.read()
        self.bodies[destination, txn_id].add(body)
        await asyncio.sleep(self._chance.random() * 0.02)
        if self._chance.random() < 0.1:
            return web.Response(status=500)
        self.texts[destination] += [pdu["content"]["body"] for pdu in json.loads(body)["pdus"]]
        return web.json_response({"pdus": {}})


async def start(dsn: str, folder: Path, port: int) -> Process:
    arguments = (str(SCRIPT), dsn, str(folder), str(port))
    started = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE)
    assert started.stdout is not None
    async with asyncio.timeout(90):
        assert await started.stdout.readline() == b"ready\n"
    return started


async def runs_somewhere(here: graph.Process) -> None:
    """Until one of the processes has the lease: who begins begins at the end of the log."""

    async def leased() -> bool:
        async with here.core.db.read() as tx:
            return bool(
                await tx.value("SELECT 1 FROM log_readers WHERE name = 'federation' AND owner IS NOT NULL")
            )

    await holds(leased)


@pytest.mark.slow
async def test_nothing_is_lost_and_nothing_is_sent_with_another_content(
    database: str, tmp_path: Path
) -> None:
    receivers = Receivers()
    runner = web.ServerRunner(web.Server(receivers.take))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = int(runner.addresses[0][1])
    senders: list[Process] = []
    try:
        async with process(database, tmp_path, alone=False) as here:
            alice = await here.user("alice")
            room_id = await here.room(alice, preset="public_chat")
            await join(here, room_id, *(f"@x:{server}" for server in SERVERS))
            senders = [await start(database, tmp_path / str(n), port) for n in range(2)]
            await runs_somewhere(here)  # from the end of the log on

            async def kill() -> None:
                for number in range(4):
                    await asyncio.sleep(2.5)
                    senders[number % 2].kill()
                    await senders[number % 2].wait()
                    senders[number % 2] = await start(database, tmp_path / f"again{number}", port)

            killing = asyncio.create_task(kill())
            sent = 0
            while not killing.done() or sent < 300:
                await here.send(alice, room_id, f"m{sent}")
                sent += 1
                await asyncio.sleep(0.02)
            await killing
            await until(lambda: all(f"m{sent - 1}" in receivers.texts[server] for server in SERVERS))
        for server in SERVERS:
            assert list(dict.fromkeys(receivers.texts[server])) == numbered(0, sent)
        assert all(len(bodies) == 1 for bodies in receivers.bodies.values())
    finally:
        for each in senders:
            if each.returncode is None:
                each.kill()
                await each.wait()
        await runner.cleanup()
