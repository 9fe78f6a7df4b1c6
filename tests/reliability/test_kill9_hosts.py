"""Several processes on several hosts over one PostgreSQL, of which any may be killed, or lose its network to the database.

What was acknowledged is there, once and in order; positions have no gaps; who was answered finds it at every host; a client
that syncs hears everything, wherever it asks; the initial sync is what the increments add up to; and clients of hosts that
nothing happened to are served at once.
"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from tests.reliability.test_kill9 import SENDERS, World, _check, _messages, _prepare
from tests.support.cluster import ClusterHost, all_serve, leader_of, several_hosts, workers
from tests.support.waiting import until_sync

LONGEST = 5.0
"""Seconds a client may be without an answer from a host that nothing happens to."""
PATIENCE = 4.0
"""Seconds after which a client asks another host."""
POLL = 1.0
State = dict[tuple[str, str], str]

pytestmark = [pytest.mark.reliability, pytest.mark.slow]


@dataclass
class SpreadWorld(World):
    """Each client has a host where it asks first, and another one when that does not answer."""

    urls: list[str] = field(default_factory=list)
    hit_at: dict[int, float] = field(default_factory=dict)
    """Number of a host -> until when something happened to it."""
    slowest: float = 0.0
    """Of all answers to clients whose host nothing had happened to."""
    slowest_moved: float = 0.0
    """Of all others."""
    states: list[State] = field(default_factory=list)
    """What each listener knows of the room."""

    def home(self, token: str | None) -> int:
        """Where this client asks first."""
        return self.tokens.index(token) % len(self.urls) if token in self.tokens else 0

    async def ask(
        self, method: str, path: str, token: str | None = None, *, at: int | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        home = at = self.home(token) if at is None else at
        began = time.monotonic()
        while True:
            url = f"{self.urls[at]}/_matrix/client/v3{path}"
            with contextlib.suppress(aiohttp.ClientError, ConnectionError, asyncio.TimeoutError):
                async with self.http.request(method, url, headers=headers, **kwargs) as response:
                    answer: dict[str, Any] = await response.json()
                    if response.status == 200:
                        self.answered(home, began, POLL if "timeout" in kwargs.get("params", {}) else 0.0)
                        return answer
                    assert response.status == 503, (method, path, response.status, answer)
            at = (at + 1) % len(self.urls)
            await asyncio.sleep(0.05)

    def answered(self, home: int, began: float, wanted: float) -> None:
        """`wanted`: seconds that the client itself was willing to wait."""
        now = time.monotonic()
        if self.hit_at.get(home, 0.0) < began:
            self.slowest = max(self.slowest, now - began - wanted)
        else:
            self.slowest_moved = max(self.slowest_moved, now - began - wanted)

    async def sender(self, number: int) -> None:
        """Sends, and looks at another host for what was answered; one of them also changes the state."""
        token, count = self.tokens[number], 0
        while not self.over:
            body = f"{number}.{count}"
            path = f"/rooms/{self.room_id}/send/m.room.message/t{count}"
            answer = await self.ask("PUT", path, token, json={"msgtype": "m.text", "body": body})
            self.acknowledged[number].append((body, answer["event_id"]))
            elsewhere = (self.home(token) + 1) % len(self.urls)
            path = f"/rooms/{self.room_id}/event/{answer['event_id']}"
            await self.ask("GET", path, token, at=elsewhere)
            if number == 0 and count % 5 == 0:
                path = f"/rooms/{self.room_id}/state/m.room.topic"
                await self.ask("PUT", path, token, json={"topic": body})
            count += 1

    async def follow(self, token: str, heard: list[tuple[str, str]], state: State) -> None:
        """Sync until all is quiet."""
        state |= state_of(await self.room(token, {}))
        since = self.since
        while True:
            last = self.quiet
            params = {"since": since, "timeout": "0" if last else str(int(POLL * 1000)), "filter": FILTER}
            answer = await self.ask("GET", "/sync", token, params=params)
            section = answer.get("rooms", {}).get("join", {}).get(self.room_id)
            if section:
                if section["timeline"]["limited"]:
                    heard += await self.page(token, section["timeline"]["prev_batch"], since)
                heard += _messages(section["timeline"]["events"])
                state |= state_of(section)
            since = answer["next_batch"]
            if last and not section:
                return

    async def room(self, token: str, params: dict[str, str], *, at: int | None = None) -> dict[str, Any]:
        """The room in an initial sync."""
        answer = await self.ask("GET", "/sync", token, at=at, params={"filter": FILTER, **params})
        section: dict[str, Any] = answer["rooms"]["join"][self.room_id]
        return section


FILTER = '{"room":{"timeline":{"limit":20}}}'


def state_of(section: dict[str, Any]) -> State:
    """What a section of a room says about its state."""
    events = [*section["state"]["events"], *section["timeline"]["events"]]
    return {(each["type"], each["state_key"]): each["event_id"] for each in events if "state_key" in each}


# ------------------------------------------------------------------------------------------------------ what happens


@dataclass
class Play:
    """All hosts, and who talks to them."""

    world: SpreadWorld
    hosts: list[ClusterHost]
    processes: int
    dsn: str
    chance: random.Random

    async def well(self) -> None:
        """All processes of all hosts serve."""
        for host in self.hosts:
            await asyncio.to_thread(until_sync, partial(all_serve, host.process, self.processes), 60, 0.1)

    async def kill_writer(self, host: ClusterHost) -> None:
        leader = leader_of(host.process.data)
        assert leader is not None
        os.kill(leader, signal.SIGKILL)

    async def kill_other(self, host: ClusterHost) -> None:
        leader = leader_of(host.process.data)
        os.kill(self.chance.choice([pid for pid in workers(host.process) if pid != leader]), signal.SIGKILL)

    async def kill_host(self, host: ClusterHost) -> None:
        await asyncio.to_thread(host.process.kill9)
        await asyncio.sleep(self.chance.uniform(0.1, 1.0))
        await asyncio.to_thread(host.process.start)

    async def cut_network(self, host: ClusterHost) -> None:
        host.relay.close()
        await asyncio.sleep(self.chance.uniform(0.2, 1.5))
        await host.relay.open()

    async def lose_packets(self, host: ClusterHost) -> None:
        """In the middle of a transaction that has locked the head of the log."""
        for _ in range(500):
            await asyncio.sleep(self.chance.uniform(0.005, 0.02))
            host.relay.hold()
            await asyncio.sleep(0.05)
            if await self.locked(host):
                break
            host.relay.release()
        else:
            pytest.fail("the host never held the head of the log")
        await asyncio.sleep(5.0)
        host.relay.release()

    async def locked(self, host: ClusterHost) -> bool:
        """Whether a transaction stands open that has locked the head of the log, and does nothing."""
        query = """
            SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
            WHERE relation = 'log_head'::regclass AND mode = 'RowShareLock' AND state LIKE 'idle in transaction%'
              AND state_change < clock_timestamp() - interval '30 ms'
            """
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            row = await (await connection.execute(query)).fetchone()
        return row is not None and bool(row[0])

    async def happens(
        self, fault: Callable[[ClusterHost], Awaitable[None]], number: int
    ) -> tuple[float, float]:
        """To one host. Returns how long clients waited: those of other hosts, and its own."""
        world = self.world
        world.slowest = world.slowest_moved = 0.0
        await asyncio.sleep(self.chance.uniform(0.1, 0.6))
        world.hit_at[number] = float("inf")
        await fault(self.hosts[number])
        await asyncio.sleep(0.3)
        await self.well()
        world.hit_at[number] = time.monotonic()
        await asyncio.sleep(0.2)
        return world.slowest, world.slowest_moved

    async def gaps(self) -> int:
        """Positions of the log that nobody can read."""
        query = "SELECT max(position) - min(position) + 1 - count(*) FROM log_feed"
        async with await psycopg.AsyncConnection.connect(self.dsn) as connection:
            row = await (await connection.execute(query)).fetchone()
        assert row is not None
        return int(row[0])


@contextlib.asynccontextmanager
async def clients() -> Any:
    """A connection for each request: any process may be the one that answers."""
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield session


SHAPES = [
    pytest.param(1, 4, 1, id="one-host-of-4"),
    pytest.param(2, 2, 1, id="two-hosts-of-2"),
    *(
        pytest.param(hosts, processes, seed, id=f"{hosts}-of-{processes}-{seed}", marks=pytest.mark.load)
        for seed in range(2, 8)
        for hosts, processes in ((1, 4), (2, 2))
    ),
]


@pytest.mark.parametrize(("hosts", "processes", "seed"), SHAPES)
async def test_nothing_is_lost_whatever_dies(
    database: str, tmp_path: Path, hosts: int, processes: int, seed: int
) -> None:
    """API-09, SYNC-01, SYNC-04"""
    async with (
        several_hosts(tmp_path, database, hosts=hosts, processes=processes) as cluster,
        clients() as http,
    ):
        world = SpreadWorld(http, "", urls=[host.url for host in cluster])
        play = Play(world, cluster, processes, database, random.Random(seed))
        await play.well()
        await _prepare(world)
        heard: list[list[tuple[str, str]]] = [[] for _ in cluster]
        world.states = [{} for _ in cluster]
        faults = [play.kill_writer, play.kill_other, play.cut_network]
        if hosts > 1:
            faults += [play.kill_host, play.lose_packets]
        async with asyncio.TaskGroup() as tasks:
            listeners = [
                tasks.create_task(world.follow(world.tokens[number], heard[number], world.states[number]))
                for number in range(hosts)
            ]
            senders = [tasks.create_task(world.sender(number)) for number in range(SENDERS)]
            for number, fault in enumerate(faults):
                others, own = await play.happens(fault, number % hosts)
                print(
                    f"{fault.__name__}: clients of others waited {others:.2f} s at most, its own {own:.2f} s"
                )
                assert others < LONGEST, fault.__name__
                assert own < LONGEST or fault in {play.kill_host, play.lose_packets}, fault.__name__
            world.over = True
            await asyncio.wait(senders)
            world.quiet = True
            await asyncio.wait(listeners)
        await check(play, heard)


async def check(play: Play, heard: list[list[tuple[str, str]]]) -> None:
    world = play.world
    for number, each in enumerate(heard):
        world.heard = each
        await _check(world)
        # The sum of increments is what a client is told that begins now, at whichever host.
        section = await world.room(world.tokens[number], {}, at=(number + 1) % len(play.hosts))
        assert state_of(section) == world.states[number]
        told = _messages(section["timeline"]["events"])
        assert told == each[len(each) - len(told) :]
    assert await play.gaps() == 0
    for host in play.hosts:
        output = host.process.last_output(100_000)
        assert "log.host_frame" not in output
        assert "log.host_positions_wrong" not in output
