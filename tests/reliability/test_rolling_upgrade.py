"""A rolling upgrade under load: two hosts on one database, an old version beside a new one, each restarted in turn.

The new version (`newer_server.py`) writes a kind of log entry, defers a kind of job, and runs a reader and periodic work
that the old one does not know.
"""

import asyncio
import contextlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from homeserver.storage import migrate
from homeserver.storage.database import Database
from tests.reliability.newer_server import JOB_KIND, KIND, MIGRATION, PERIODIC, READER, STREAM
from tests.support.process import ConfiguredProcess
from tests.support.waiting import until

SENDERS = 2
"""At each host."""
NEWER = Path(__file__).with_name("newer_server.py")
FILTER = '{"room":{"timeline":{"limit":50}}}'
NOTE = "/_matrix/client/unstable/tests.later/notes"

pytestmark = [pytest.mark.reliability, pytest.mark.slow]


@dataclass
class Host:
    """One of the two, and what its clients may see while it is restarted."""

    process: ConfiguredProcess
    down: bool = False
    """It is being restarted: its clients find nobody, or are told to come back."""

    @property
    def url(self) -> str:
        return self.process.base_url

    async def stop(self, *, kill: bool = False) -> None:
        self.down = True
        await asyncio.to_thread(self.process.kill9 if kill else self.process.terminate)

    async def start(self, *, newer: bool) -> None:
        if newer:
            self.process.program = (sys.executable, str(NEWER))
        await asyncio.to_thread(self.process.start)
        self.down = False


@dataclass
class World:
    """All clients, and what they were told."""

    http: aiohttp.ClientSession
    room_id: str = ""
    sent: dict[str, list[str]] = field(default_factory=dict)
    """Per sender: event ids, in the order of the answers."""
    heard: dict[str, list[str]] = field(default_factory=dict)
    """Per listener: event ids of messages, in the order of the syncs."""
    noted: list[int] = field(default_factory=list)
    """Notes that were acknowledged."""
    told: list[int] = field(default_factory=list)
    """Notes that `/sync` told the one who wrote them."""
    over: bool = False
    quiet: bool = False

    async def ask(
        self, host: Host, method: str, path: str, token: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """One request, repeated at the same host until it is answered; others than 200 only while that is restarted."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = host.url + (path if path.startswith("/_") else f"/_matrix/client/v3{path}")
        while True:
            down = host.down
            try:
                async with self.http.request(method, url, headers=headers, **options) as response:
                    answer: dict[str, Any] = await response.json()
                    if response.status == 200:
                        return answer
                    fault, allowed = f"{response.status} {answer}", response.status == 503
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                fault, allowed = repr(error), True
            if not allowed or not (down or host.down):
                raise AssertionError(f"{method} {path}: {fault}")
            await asyncio.sleep(0.05)

    async def register(self, host: Host, name: str) -> str:
        body = {"username": name, "password": "correct horse battery", "auth": {"type": "m.login.dummy"}}
        return str((await self.ask(host, "POST", "/register", json=body))["access_token"])

    async def send(self, host: Host, name: str, token: str) -> None:
        sent = self.sent[name] = []
        while not self.over:
            path = f"/rooms/{self.room_id}/send/m.room.message/{len(sent)}"
            content = {"msgtype": "m.text", "body": f"{name} {len(sent)}"}
            sent.append((await self.ask(host, "PUT", path, token, json=content))["event_id"])
            await asyncio.sleep(0.04)

    async def listen(
        self, host: Host, name: str, token: str, since: str, hear: Callable[[Any], None]
    ) -> None:
        heard = self.heard[name] = []
        while True:
            last = self.quiet
            params = {"since": since, "timeout": "0" if last else "1000", "filter": FILTER}
            answer = await self.ask(host, "GET", "/sync", token, params=params)
            hear(answer)
            section = answer.get("rooms", {}).get("join", {}).get(self.room_id)
            if section:
                timeline = section["timeline"]
                if timeline.get("limited"):
                    heard += await self.page(host, token, timeline["prev_batch"], since)
                heard += _messages(timeline["events"])
            since = answer["next_batch"]
            if last and not section:
                return

    async def page(self, host: Host, token: str, start: str, stop: str) -> list[str]:
        """Messages between two tokens, from the newer one back, oldest first."""
        found: list[str] = []
        position: str | None = start
        while position:
            params = {"dir": "b", "from": position, "to": stop, "limit": "100"}
            answer = await self.ask(host, "GET", f"/rooms/{self.room_id}/messages", token, params=params)
            found += _messages(answer["chunk"])
            position = answer.get("end")
        return found[::-1]

    async def note(self, host: Host, token: str, count: int) -> None:
        """Write further notes."""
        for _ in range(count):
            number = len(self.noted)
            await self.ask(host, "PUT", f"{NOTE}/{number}", token, json={})
            self.noted.append(number)


def _messages(events: list[dict[str, Any]]) -> list[str]:
    return [each["event_id"] for each in events if each["type"] == "m.room.message"]


@contextlib.asynccontextmanager
async def hosts(dsn: str, tmp_path: Path) -> AsyncIterator[tuple[Host, Host]]:
    """Two, of the old version, started."""
    key = {"signing_key_path": str(tmp_path / "signing.key")}
    log = {"requests": False, "format": "json"}
    shared: dict[str, Any] = {"database": {"shared": True, "pool_size": 4}, "rate_limits": {"enabled": False}}
    with contextlib.ExitStack() as stack:
        first, second = (
            Host(stack.enter_context(ConfiguredProcess(tmp_path / name, dsn, server=key, log=log, **shared)))
            for name in ("a", "b")
        )
        await first.start(newer=False)
        await second.start(newer=False)
        yield first, second


def migrate_as_the_new_version(dsn: str, folder: Path) -> None:
    shutil.copytree(migrate.FOLDER, folder)
    (folder / "9999-later.sql").write_text(MIGRATION)
    assert migrate.apply(dsn, folder=folder) == ("9999-later",)


def lines(host: Host) -> Counter[str]:
    """What the host's log says so far: events, with how often."""
    found: Counter[str] = Counter()
    for line in host.process.output.read_text().splitlines():
        with contextlib.suppress(ValueError):
            found[json.loads(line).get("event", "")] += 1
    return found


async def well(world: World, host: Host) -> None:
    async with world.http.get(host.url + "/health") as response:
        health = await response.json()
    assert (response.status, health["status"]) == (200, "ok"), health


async def dropped(world: World, host: Host) -> float:
    """How often the host has dropped a projection since it started."""
    async with world.http.get(host.url + "/metrics") as response:
        text = await response.text()
    return float(
        next(line.split()[-1] for line in text.splitlines() if line.startswith("atrium_projections_dropped"))
    )


async def test_an_old_process_beside_a_new_one(database: str, tmp_path: Path) -> None:
    timeout = aiohttp.ClientTimeout(total=20)
    async with (
        hosts(database, tmp_path) as (a, b),
        Database(database, size=2) as db,
        aiohttp.ClientSession(timeout=timeout) as http,
    ):
        world = World(http)
        writer = await world.register(a, "writer")
        names = [
            (host, f"{name}{n}") for host, name in ((a, "at_a"), (b, "at_b")) for n in range(SENDERS + 1)
        ]
        tokens = {name: await world.register(host, name) for host, name in names}
        room = {"preset": "public_chat"}
        world.room_id = (await world.ask(a, "POST", "/createRoom", writer, json=room))["room_id"]
        for host, name in names:
            await world.ask(host, "POST", f"/join/{world.room_id}", tokens[name], json={})
        async with asyncio.TaskGroup() as group:
            sending, listening = [], []
            for host, name in names:  # all of them listen before anybody speaks
                if name.endswith("0"):
                    since = (await world.ask(host, "GET", "/sync", tokens[name]))["next_batch"]
                    listening.append(
                        group.create_task(world.listen(host, name, tokens[name], since, lambda _: None))
                    )
            for host, name in names:
                if not name.endswith("0"):
                    sending.append(group.create_task(world.send(host, name, tokens[name])))
            await upgrade(world, a, b, db, writer, tmp_path / "migrations")
            world.over = True
            await asyncio.wait(sending)
            world.quiet = True
        await check(world, db)


async def upgrade(world: World, a: Host, b: Host, db: Database, writer: str, folder: Path) -> None:
    """Each host in turn, with restarts of both while they differ."""
    await asyncio.to_thread(migrate_as_the_new_version, db.dsn, folder)
    await b.stop()
    await b.start(newer=True)
    since = (await world.ask(b, "GET", "/sync", writer))["next_batch"]
    await world.note(b, writer, 100)
    answer = await world.ask(b, "GET", "/sync", writer, params={"since": since})
    world.told += answer[STREAM]
    await old_goes_on(world, a)

    for kill in (False, True):  # the old one is restarted beside the new one
        await a.stop(kill=kill)
        await world.note(b, writer, 30)
        await a.start(newer=False)
        await world.note(b, writer, 30)
        await old_goes_on(world, a)

    for kill in (False, True):  # the new one beside the old one; what only it knows waits
        async with asyncio.TaskGroup() as group:
            group.create_task(world.note(b, writer, 60))
            await asyncio.sleep(0.2)
            await b.stop(kill=kill)
            # The old one is alone with entries, a lease, jobs and work that it does not know.
            await asyncio.sleep(1.0)
            await well(world, a)
            await b.start(newer=True)
        await old_goes_on(world, a)

    await a.stop()
    await a.start(newer=True)
    await world.note(a, writer, 50)
    await world.note(b, writer, 50)


async def old_goes_on(world: World, a: Host) -> None:
    """It has passed over what it does not know, without dropping what it knows, and says so once."""
    heard = len(world.heard["at_a0"])
    await until(partial(_more, world.heard["at_a0"], heard + 20), within=60)
    await well(world, a)
    assert await dropped(world, a) == 0
    said = lines(a)
    assert said["tail.unknown_kind"] >= 1
    assert not {"tail.reset", "tail.decode_failed", "tail.read_failed", "request_failed", "loop_ended"} & set(
        said
    )


async def _more(heard: list[str], count: int) -> bool:
    return len(heard) >= count


async def check(world: World, db: Database) -> None:
    at_b = world.heard["at_b0"]
    assert world.heard["at_a0"] == at_b, "both hosts tell the same, in the same order"
    assert max(Counter(at_b).values()) == 1
    places = {event_id: place for place, event_id in enumerate(at_b)}
    for name, sent in world.sent.items():
        assert len(sent) > 20, f"{name}: there was no load"
        order = [places[event_id] for event_id in sent]
        assert order == sorted(order), name
    assert world.told == list(range(100))

    async def all_done() -> bool:
        async with db.read() as tx:
            left = await tx.value("SELECT count(*) FROM jobs WHERE kind = %(kind)s", kind=JOB_KIND)
            seen = await tx.value("SELECT count(DISTINCT number) FROM later_delivered")
        return left == 0 and seen == len(world.noted)

    await until(all_done, within=60, every=0.1)
    async with db.read() as tx:
        delivered = await tx.all("SELECT position, number FROM later_delivered ORDER BY place")
        jobs = await tx.column("SELECT number FROM later_jobs_done")
        runs = await tx.value("SELECT count(*) FROM later_runs")
        failures = await tx.value("SELECT failures FROM periodic_work WHERE name = %(name)s", name=PERIODIC)
        behind = await tx.value(
            "SELECT count(*) FROM log_cursors WHERE reader = %(name)s AND failures > 0", name=READER
        )
    first = dict(reversed(delivered))
    assert list(dict.fromkeys(number for _, number in delivered)) == world.noted
    assert sorted(set(jobs)) == world.noted
    assert runs > 5
    assert (failures, behind) == (0, 0)
    print(
        f"{len(world.noted)} notes of kind {KIND}, {len(delivered) - len(first)} delivered twice, "
        f"{len(jobs) - len(set(jobs))} jobs twice; {sum(map(len, world.sent.values()))} messages; {runs} runs"
    )
