"""Processes are killed while another server sends: what was acknowledged is in its room, once and in order."""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import psycopg
import pytest

from homeserver.config import Config
from homeserver.events.event import Event
from tests.integration.federation.test_send import PUBLIC
from tests.support.cluster import workers
from tests.support.federation import Federation
from tests.support.process import ConfiguredProcess
from tests.support.remote_room import RemoteRoom
from tests.support.remote_server import RemoteServer
from tests.support.server import running
from tests.support.waiting import until, until_sync

EVENTS = 400
ROOMS = 3
KILLS = 8


@dataclass(frozen=True)
class Named:
    """All that a remote server needs to know."""

    name: str


def killable(config: Config, processes: int) -> ConfiguredProcess:
    """The same server, in processes of its own."""
    dsn = config.database.url
    assert dsn is not None
    server = ConfiguredProcess(
        config.server.data_dir,
        dsn,
        processes=processes,
        server={"name": config.server.name},
        outbound={
            "extra_ca_files": [str(path) for path in config.outbound.extra_ca_files],
            "allow_private": {"federation": ["127.0.0.0/8", "::1/128"]},
        },
        rate_limits={"enabled": False},
    )
    raw = json.loads(server.config.read_text())
    (tls,) = [each for each in config.listeners if each.tls is not None]
    assert tls.tls is not None
    files = {"certificate": str(tls.tls.certificate), "private_key": str(tls.tls.private_key)}
    listener = {"address": "127.0.0.1", "port": tls.port, "resources": ["federation"], "tls": files}
    raw["listeners"].append(listener)
    server.config.write_text(json.dumps(raw))
    return server


async def prepared(config: Config, remote: RemoteServer) -> list[list[Event]]:
    """What bob will say in some rooms."""
    async with running(config) as here:
        alice = await here.register("alice")
        chains = []
        for _ in range(ROOMS):
            room = await RemoteRoom.join(here, remote, await alice.create_room(**PUBLIC), "bob")
            await room.drained()
            chains.append(room.chain("bob", EVENTS))
        return chains


async def send_all(
    remote: RemoteServer, name: str, chain: Sequence[Event], number: int, chance: random.Random
) -> None:
    """As servers do: one transaction after the other, each again until it is acknowledged."""
    at = count = 0
    while at < len(chain):
        size, count = chance.randint(1, 20), count + 1
        body = {"pdus": [dict(event.fields) for event in chain[at : at + size]], "edus": []}
        uri = f"/_matrix/federation/v1/send/{number}-{count}"
        while True:
            code: Any = None
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with asyncio.timeout(10):
                    code, answer = await remote.ask(Named(name), "PUT", uri, body)  # type: ignore[arg-type]  # it has a name
            if code == 200:
                assert not any(answer["pdus"].values()), answer
                break
            await asyncio.sleep(0.05)
        at += size


@pytest.mark.reliability
@pytest.mark.parametrize("processes", [1, 2])
async def test_what_was_acknowledged_survives_kills(federation: Federation, processes: int) -> None:
    """FED-08, FED-09; nothing is lost and nothing comes twice, and a room goes on within 5 s of a process's death."""
    chance = random.Random(processes)  # reproducible
    config, remote = federation.config(), await federation.remote()
    chains = await prepared(config, remote)
    server = killable(config, processes)
    with contextlib.closing(server):
        await asyncio.to_thread(server.start)
        async with asyncio.TaskGroup() as tasks:
            senders = [
                tasks.create_task(send_all(remote, config.server.name, chain, number, random.Random(number)))
                for number, chain in enumerate(chains)
            ]
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.1, 0.6))
                if processes == 1:
                    server.kill9()
                    await asyncio.to_thread(server.restart)
                else:
                    await asyncio.to_thread(until_sync, lambda: len(workers(server)) == processes, 30, 0.1)
                    os.kill(chance.choice(workers(server)), signal.SIGKILL)
            await asyncio.wait(senders)
        began = time.monotonic()
        await until(lambda: _drained(config), within=90)
        took = time.monotonic() - began
        print(f"{processes} processes, {KILLS} kills: drained {took:.1f} s after the last acknowledgement")
        await _check(config, chains)


async def _drained(config: Config) -> bool:
    dsn = config.database.url
    assert dsn is not None
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute("SELECT count(*) FROM federation_staged")).fetchone()
    return row == (0,)


async def _check(config: Config, chains: Sequence[Sequence[Event]]) -> None:
    dsn = config.database.url
    assert dsn is not None
    ids = [event.event_id for chain in chains for event in chain]
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute(
            "SELECT event_id, event_nid, flags FROM events WHERE event_id = ANY(%s)", (ids,)
        )
        found = {row[0]: row[1:] for row in await cursor.fetchall()}
    assert len(found) == len(ids)
    assert not any(flags for _, flags in found.values())
    for chain in chains:
        numbers = [found[event.event_id][0] for event in chain]
        assert numbers == sorted(numbers)
