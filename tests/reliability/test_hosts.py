"""Two hosts in network namespaces behind nginx and HAProxy, which are configured as docs/scaling.md says.

Clients go through both balancers while a host is stopped, killed, cut off from the database, and started again. What was
acknowledged is there, once and in order; who syncs hears everything; nobody waits longer than five seconds for the fault of
another host.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from homeserver.storage import migrate
from tests.reliability.test_kill9 import World
from tests.support import balancers, namespaces
from tests.support.balancers import Balancer
from tests.support.namespaces import NamespaceHost
from tests.support.pg_hosts import PORT, PostgresHost
from tests.support.process import ConfiguredProcess, free_port
from tests.support.waiting import until

LONGEST = 5.0
"""Seconds a client of another host may be without an answer."""
DRAIN = 1.5
HTTP_PORT = 8008
_MISSING = namespaces.missing() or balancers.missing()

pytestmark = [
    pytest.mark.reliability,
    pytest.mark.slow,
    pytest.mark.skipif(_MISSING is not None, reason=_MISSING or ""),
]


@dataclass
class Seen:
    """What the clients of one address were told."""

    slowest: float = 0.0
    refused: list[int] = field(default_factory=list)
    """Statuses other than 200, and 0 where a connection was lost."""


class Client(World):
    """Clients of one address: a balancer's, or a host's. Repeat what is not answered, as clients do."""

    seen: Seen

    async def register(self, name: str) -> str:
        body = {"username": name, "password": "a long password", "auth": {"type": "m.login.dummy"}}
        return str((await self.ask("POST", "/register", json=body))["access_token"])

    async def ask(self, method: str, path: str, token: str | None = None, **kwargs: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        began = time.monotonic()
        while True:
            try:
                async with self.http.request(method, self.base + path, headers=headers, **kwargs) as response:
                    if response.status == 200:
                        answer: dict[str, Any] = await response.json()
                        waits = float(kwargs.get("params", {}).get("timeout", 0)) / 1000
                        self.seen.slowest = max(self.seen.slowest, time.monotonic() - began - waits)
                        return answer
                    assert response.status in {502, 503, 504}, (response.status, await response.text())
                    self.seen.refused.append(response.status)
            except (aiohttp.ClientError, ConnectionError, TimeoutError):
                self.seen.refused.append(0)
            await asyncio.sleep(0.05)


@dataclass
class Place:
    """The machines."""

    database: PostgresHost
    a: ConfiguredProcess
    b: ConfiguredProcess
    cable: NamespaceHost
    """Of host a."""


@pytest.fixture
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="atrium-hosts-"))
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        machines = [stack.enter_context(host) for host in namespaces.two_hosts()]
        postgres = PostgresHost(folder / "database", [machine.gateway for machine in machines])
        stack.callback(postgres.end)
        postgres.start()
        migrate.apply(postgres.dsn)
        hosts = [stack.enter_context(_host(folder, postgres, machine)) for machine in machines]
        yield Place(postgres, hosts[0], hosts[1], machines[0])


def _host(folder: Path, postgres: PostgresHost, machine: NamespaceHost) -> ConfiguredProcess:
    """The same configuration at each, but for its addresses."""
    host = ConfiguredProcess(
        folder / machine.name,
        postgres.tcp(machine.gateway),
        program=(*machine.command, str(Path(sys.executable).with_name("atrium"))),
        listener={"address": machine.address, "port": HTTP_PORT, "trusted_proxies": [machine.gateway]},
        server={"signing_key_path": str(folder / "signing.key")},
        database={"shared": True},
        media={"path": str(folder / "media")},
        limits={"drain": DRAIN},
        rate_limits={"enabled": False},
        log={"requests": False, "format": "json"},
    )
    host.port = HTTP_PORT
    return host


@contextlib.asynccontextmanager
async def clients(url: str, timeout: float = 15.0) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout)) as http:
        client = Client(http, url + "/_matrix/client/v3")
        client.seen = Seen()
        yield client


async def test_hosts_come_and_go_behind_a_balancer(place: Place, tmp_path: Path) -> None:
    """API-09, SYNC-01, SYNC-04"""
    place.a.start()
    place.b.start()
    hosts = [f"{host.address}:{HTTP_PORT}" for host in (place.a, place.b)]
    async with contextlib.AsyncExitStack() as stack:
        fronts = [
            stack.enter_context(Balancer(program, tmp_path, free_port(), hosts))
            for program in balancers.PROGRAMS
        ]
        through = [await stack.enter_async_context(clients(front.url)) for front in fronts]
        other = await stack.enter_async_context(clients(place.b.base_url))
        everybody = [*through, other]
        await _one_room(everybody)
        async with asyncio.TaskGroup() as tasks:
            senders = []
            for client in everybody:
                senders += [tasks.create_task(client.sender(number)) for number in range(2)]
                tasks.create_task(client.listener(client.tokens[-1]))
            await _play(place, everybody)
            for client in everybody:
                client.over = True
            await asyncio.wait(senders)
            for client in everybody:
                client.quiet = True
        await _check(everybody)


async def _one_room(everybody: list[Client]) -> None:
    """Two senders and a listener at each address, all in one room."""
    for place, client in enumerate(everybody):
        for number in range(3):
            client.tokens.append(await client.register(f"user{place}_{number}"))
            client.acknowledged.append([])
    first = everybody[0]
    room = {"preset": "public_chat"}
    made = (await first.ask("POST", "/createRoom", first.tokens[0], json=room))["room_id"]
    for client in everybody:
        client.room_id = made
        for token in client.tokens:
            await client.ask("POST", f"/join/{made}", token, json={})
    for client in everybody:
        client.since = (await client.ask("GET", "/sync", client.tokens[-1]))["next_batch"]
    await asyncio.sleep(0.3)


async def _play(place: Place, everybody: list[Client]) -> None:
    for what, act in (("killed", _kill), ("stopped and started", _stop), ("cut off from the database", _cut)):
        for client in everybody:
            client.seen.slowest, client.seen.refused = 0.0, []
        told = await act(place)
        for name, client in zip((*balancers.PROGRAMS, "the other host"), everybody, strict=True):
            seen = client.seen
            print(f"{what}, by {name}: slowest {seen.slowest:.2f} s, {len(seen.refused)} not answered")
            if act is _stop:
                assert seen.refused == [], f"{name}: an orderly stop disturbs nobody"
            # A host that is cut off lives and says so after four seconds; nginx, which asks no host how it is, hears it then.
            longest = 2 * LONGEST if act is _cut and name == "nginx" else LONGEST
            assert seen.slowest < longest, name
        print(f"{what}: {told}")


async def _stop(place: Place) -> str:
    """A host leaves in good order, and joins again."""
    began = time.monotonic()
    await asyncio.to_thread(place.a.terminate)
    left = time.monotonic() - began
    await asyncio.to_thread(place.a.start)
    await asyncio.sleep(1.5)  # until it is given work
    return f"it left in {left:.1f} s"


async def _kill(place: Place) -> str:
    """A host dies: that which was there first, and has the leases. They go to the other one."""
    await asyncio.sleep(1.0)
    async with await psycopg.AsyncConnection.connect(place.database.dsn, autocommit=True) as connection:

        async def owners() -> dict[str, str]:
            rows = await connection.execute("SELECT name, owner FROM log_readers WHERE owner IS NOT NULL")
            return dict(await rows.fetchall())

        before = await owners()
        began = time.monotonic()
        await asyncio.to_thread(place.a.kill9)

        async def moved() -> bool:
            now = await owners()
            async with asyncio.timeout(2):
                expired = await connection.execute(
                    "SELECT count(*) FROM log_readers WHERE lease_until < clock_timestamp()"
                )
                row = await expired.fetchone()
            return row == (0,) and now.keys() == before.keys() and time.monotonic() - began > 3.2

        await until(moved, within=LONGEST, every=0.05)
        after = await owners()
    took = time.monotonic() - began
    changed = [name for name in before if after[name] != before[name]]
    assert changed, "the host that was killed ran nothing"
    await asyncio.to_thread(place.a.start)
    return f"{len(changed)} of {len(before)} readers moved, all within {took:.1f} s"


async def _cut(place: Place) -> str:
    """The network between a host and the database is cut: it says 503, and comes back by itself."""
    await asyncio.sleep(1.0)
    async with clients(place.a.base_url) as direct:
        token = await direct.register("direct")
        sync = {"timeout": "30000", "since": (await direct.ask("GET", "/sync", token))["next_batch"]}
        polling = asyncio.create_task(_timed(direct, token, sync))
        await asyncio.sleep(0.5)  # it waits
        await asyncio.to_thread(place.cable.cut, PORT)
        began = time.monotonic()
        first = await _status(direct, token)
        refused = time.monotonic() - began
        assert first == 503
        times: list[float] = []
        over = time.monotonic() + 3.0
        while time.monotonic() < over:
            asked = time.monotonic()
            assert await _status(direct, token) == 503
            times.append(time.monotonic() - asked)
            await asyncio.sleep(0.1)
        polled = await polling
        await asyncio.to_thread(place.cable.heal, PORT)
        began = time.monotonic()

        async def well() -> bool:
            return await _status(direct, token) == 200

        await until(well, within=15.0, every=0.1)
        back = time.monotonic() - began
    assert refused < 2 * LONGEST
    assert sorted(times)[len(times) // 2] < 1.0, "it says so at once"
    assert polled < 2 * LONGEST, "who waited for news is sent away"
    return (
        f"503 after {refused:.1f} s, then in {sorted(times)[len(times) // 2] * 1000:.0f} ms (median), {max(times):.1f} s at most; "
        f"a long poll ended after {polled:.1f} s; back {back:.1f} s after the network"
    )


async def _timed(client: Client, token: str, params: dict[str, str]) -> float:
    began = time.monotonic()
    headers = {"Authorization": f"Bearer {token}"}
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with client.http.get(client.base + "/sync", headers=headers, params=params) as response:
            await response.read()
    return time.monotonic() - began


async def _status(client: Client, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with client.http.get(client.base + "/sync", headers=headers, params={"timeout": "0"}) as response:
        return response.status


async def _check(everybody: list[Client]) -> None:
    first = everybody[-1]
    newest = (await first.ask("GET", "/sync", first.tokens[0]))["next_batch"]
    persisted = await first.page(first.tokens[0], newest)
    places = {event_id: place for place, (_, event_id) in enumerate(persisted)}
    assert len(places) == len(persisted)
    acknowledged = 0
    for client in everybody:
        for sent in client.acknowledged[:2]:
            assert len(sent) > 20, "there was no load"
            assert [event_id for _, event_id in sent if event_id not in places] == [], (
                "acknowledged, and lost"
            )
            order = [places[event_id] for _, event_id in sent]
            assert order == sorted(order)
            acknowledged += len(sent)
        assert client.heard == persisted, "who syncs hears everything, once, in order"
    assert acknowledged == len(persisted), "nothing stands there twice"
    print(f"{acknowledged} messages")
