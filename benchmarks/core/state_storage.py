"""What state costs in the database and to load: `python -m benchmarks.core.state_storage`.

Atrium's core without HTTP on a PostgreSQL of its own, as shipped (fsync on). A room of 10 000 members is made by joining
them one after another; then people join, rename themselves and leave, and the database is measured before and after, with
all tables, indexes and TOAST, vacuumed. At last the room forks, and the branches meet. `--json FILE` keeps the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import psycopg

from benchmarks.core.fork import CONFLICTING, make_fork
from benchmarks.procfs import Watched
from benchmarks.servers.database import describe, own_database
from homeserver.config import dev_config
from homeserver.events.auth_rules import check
from homeserver.events.auth_rules.auth_events import auth_keys_of
from homeserver.graph.state.resolver import StateResolver
from homeserver.graph.state.states import StateStore
from homeserver.matrix.ids import DeviceId, RoomId, UserId
from homeserver.matrix.signing import SigningKey
from homeserver.rooms.creation import CreateRoom
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.runtime.periodic import PeriodicRunner
from homeserver.storage import migrate
from homeserver.storage.database import Database
from homeserver.web.auth import Requester
from homeserver.wiring.core import Core
from homeserver.wiring.manifest import connect
from homeserver.wiring.rooms import RoomsFeature

STRETCH = 1_000
ROUNDS = 7
LOADS = 100
"""The kernel counts another process's time in hundredths of a second."""
NAME = "localhost"

FEED = "log_feed"
"""A ring of the last 100 000 positions between processes: it is bounded, so it is told apart from what grows."""


class Names:
    """People have names and pictures, as in life."""

    async def membership_fields(self, user_id: UserId) -> dict[str, str]:
        number = user_id.split(":", maxsplit=1)[0][1:]
        return {"displayname": f"Person {number}", "avatar_url": f"mxc://{NAME}/{number:0>24}"}


class World:
    """The core, its people, and its database seen from outside."""

    def __init__(self, core: Core, rooms: RoomsFeature, dsn: str, watched: Watched) -> None:
        self.core = core
        self.rooms = rooms
        self.dsn = dsn
        self.watched = watched

    async def person(self, number: int) -> Requester:
        user_id = UserId(f"@user{number}:{NAME}")
        nid = await self.core.interning.user_nid(user_id)
        return Requester(user_id=user_id, user_nid=nid, device_id=DeviceId("D"))

    async def join(self, number: int, room_id: RoomId) -> None:
        await self.rooms.membership.join(await self.person(number), room_id)

    async def rename(self, number: int, room_id: RoomId) -> None:
        person = await self.person(number)
        content = {
            "membership": "join",
            "displayname": f"Doctor {number}",
            "avatar_url": f"mxc://{NAME}/{number:0>24}",
        }
        await self.rooms.sending.put_state(person, room_id, ("m.room.member", person.user_id), content)

    async def topic(self, number: int, room_id: RoomId) -> None:
        content = {"topic": f"What we talk about today, the {number}th time"}
        await self.rooms.sending.put_state(await self.person(0), room_id, ("m.room.topic", ""), content)

    async def say(self, number: int, room_id: RoomId) -> None:
        content = {"msgtype": "m.text", "body": "A message of ordinary length, as people write them."}
        await self.rooms.sending.send(await self.person(0), room_id, "m.room.message", f"t{number}", content)

    async def settle(self) -> None:
        """What happens behind the writers has happened."""
        await self.core.compaction.drain()
        await self.core.upkeep.once()

    def sizes(self) -> tuple[dict[str, int], int]:
        """Bytes of every table with its indexes and TOAST after a VACUUM, and the position of the write-ahead log."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            lsn = connection.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").fetchone()
            connection.execute("VACUUM")
            rows = connection.execute(
                """
                SELECT c.relname, pg_table_size(c.oid), pg_indexes_size(c.oid) FROM pg_class c
                WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
                """
            ).fetchall()
        assert lsn is not None
        found: dict[str, int] = {}
        for name, table, indexes in rows:
            found[name], found[f"{name}, indexes"] = table, indexes
        return found, int(lsn[0])


@contextlib.asynccontextmanager
async def world(dsn: str, folder: Path, postmaster: int) -> AsyncIterator[World]:
    """Everything beneath HTTP, running."""
    config = dev_config(port=0, data=folder).with_database(dsn)
    async with Database(dsn) as db:
        core = Core(config, db, SigningKey(bytes(32), "a_test"), SystemClock(), Entropy(), alone=True)
        rooms = RoomsFeature(config, core, Names())
        connect((core.manifest, rooms.manifest), core.tail, core.jobs, gate=core.gate)
        await core.tail.start()
        writer = asyncio.create_task(core.log.run())
        work = PeriodicRunner(core.manifest.periodic, db, SystemClock(), Entropy())
        work.start()
        try:
            yield World(core, rooms, dsn, Watched((), (postmaster,)))
        finally:
            core.log.close()
            await writer
            await work.stop()


class Report:
    """Lines for people, figures for programs; and how large a room is asked for."""

    def __init__(self, members: int, changes: int) -> None:
        self.members = members
        self.changes = changes
        self.figures: dict[str, float] = {}

    def add(self, name: str, value: float, unit: str, limit: str = "") -> None:
        self.figures[name] = value
        print(f"{name:62}{value:10.2f} {unit:6} {limit}", flush=True)


async def joins(here: World, room_id: RoomId, report: Report) -> None:
    """Members one after another: what the last cost beside the first."""
    costs: list[float] = []
    for start in range(1, report.members, STRETCH):
        stop = min(start + STRETCH, report.members)
        before, cpu = here.watched.usage().database, time.process_time()
        for number in range(start, stop):
            await here.join(number, room_id)
        spent = time.process_time() - cpu, here.watched.usage().database - before
        costs.append(sum(spent) / (stop - start) * 1000)
        print(f"  joins {start:6} to {stop:6}: {costs[-1]:.3f} ms CPU each", flush=True)
    if len(costs) > 5:
        report.add(
            "5 000 joins: the last 1 000 to the first 1 000, CPU", costs[4] / costs[0], "x", "(near 1)"
        )
    name = f"all {report.members} joins: the last 1 000 to the first 1 000, CPU"
    report.add(name, costs[-1] / costs[0], "x", "(near 1)")
    report.add("a join, server and PostgreSQL", sum(costs) / len(costs), "ms CPU")


async def growth(
    here: World,
    report: Report,
    what: str,
    act: Callable[[int, RoomId], Awaitable[None]],
    *,
    room_id: RoomId,
    first: int,
    limit: str = "(at most 600)",
) -> None:
    """Bytes by which the database grows with each act."""
    await here.settle()
    before, lsn = here.sizes()
    for number in range(first, first + report.changes):
        await act(number, room_id)
    written = here.sizes()[1] - lsn
    await here.settle()
    after = here.sizes()[0]
    grown = {
        name: (after[name] - before[name]) / report.changes for name in after if after[name] != before[name]
    }
    feed = sum(size for name, size in grown.items() if name.startswith(FEED))
    report.add(f"database growth with {what}", sum(grown.values()) - feed, "bytes", limit)
    for name, size in sorted(grown.items(), key=lambda item: -item[1]):
        print(f"      {name:30}{size:10.1f}")
    report.add(f"  write-ahead log with {what}", written / report.changes, "bytes")


def id_index(here: World, report: Report) -> None:
    """An index of hashes grows by leaps: what it takes for an event on average, where the leaps above fell by chance."""
    with psycopg.connect(here.dsn) as connection:
        row = connection.execute(
            "SELECT pg_relation_size('events_event_id')::float / count(*) FROM events"
        ).fetchone()
    assert row is not None
    report.add("the index by event id, for an event on average", row[0], "bytes")


async def loading(here: World, room_id: RoomId, report: Report) -> None:
    """The whole state by number, nothing in memory."""
    room = await here.core.rooms.known(room_id)
    count = 0

    async def load() -> None:
        nonlocal count
        count = len(await StateStore(here.core.db, MemoryBudget(1 << 30)).load(room.room_state.nid))

    name = f"loading the full state of {len(room.state):,} entries".replace(",", " ")
    report.add(name, await best_wall(load), "ms", "(wall; at most 5)")
    assert count == len(room.state)
    report.add("  of which in this process", await best_cpu(load), "ms CPU")
    before = here.watched.usage().database
    for _ in range(LOADS):
        await load()
    spent = (here.watched.usage().database - before) / LOADS * 1000
    report.add("  of which in PostgreSQL, on average", spent, "ms CPU")


async def authorising(here: World, room_id: RoomId, report: Report) -> None:
    """Membership events against the room's state in the database, as events from elsewhere are."""
    room = await here.core.rooms.known(room_id)
    nids = [room.state["m.room.member", f"@user{number}:{NAME}"] for number in range(1, 201)]
    events = [each.event for each in (await here.core.events.load(nids)).values()]
    state = await here.core.states.load(room.room_state.nid)

    async def authorise() -> None:
        for event in events:
            keys = await here.core.interning.find_key_nids([*auth_keys_of(event), ("m.room.create", "")])
            loaded = await here.core.events.load([state[nid] for nid in keys.values() if nid in state])
            view = {each.event.key: each.event for each in loaded.values() if each.event.key is not None}
            check(event, view, event.room_version)

    spent = await best_cpu(authorise) / len(events)
    report.add("authorising a member event", spent, "ms CPU", "(at most 0.2)")


async def resolving(here: World, room_id: RoomId, report: Report) -> None:
    """Two branches of one room with 100 conflicting events, from the database."""
    left, right = await make_fork(here.core, room_id, f"@user0:{NAME}")
    version = (await here.core.rooms.known(room_id)).name.version

    async def resolve(core: Core) -> None:
        fresh = StateStore(core.db, MemoryBudget(1 << 30))
        maps = [await fresh.load(left), await fresh.load(right)]
        await StateResolver(core.db, core.events, fresh, core.interning).resolve(version, maps)

    async def cold() -> None:
        here.core.events.clear()
        await resolve(here.core)

    name = f"resolving two branches with {CONFLICTING} conflicting events"
    report.add(f"{name}, cold", await best_cpu(cold), "ms CPU", "(at most 150)")
    report.add(f"{name}, events in memory", await best_cpu(lambda: resolve(here.core)), "ms CPU")


async def best_cpu(work: Callable[[], Awaitable[None]]) -> float:
    """Milliseconds of this process's CPU, all threads, in the best round."""
    return await _best(work, lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))


async def best_wall(work: Callable[[], Awaitable[None]]) -> float:
    return await _best(work, time.perf_counter)


async def _best(work: Callable[[], Awaitable[None]], clock: Callable[[], float]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = clock()
        await work()
        times.append(clock() - began)
    return min(times) * 1000


async def measure(dsn: str, folder: Path, postmaster: int, report: Report) -> None:
    async with world(dsn, folder, postmaster) as here:
        alice = await here.person(0)
        public = CreateRoom(preset="public_chat")
        room_id = await here.rooms.creation.create(alice, public)
        await joins(here, room_id, report)
        await here.settle()
        await loading(here, room_id, report)
        elsewhere = await here.rooms.creation.create(alice, public)
        known, newcomers = report.members, report.members + report.changes
        for number in range(known, newcomers):
            await here.join(number, elsewhere)
        await growth(here, report, "a profile change", here.rename, room_id=room_id, first=1)
        await growth(here, report, "a topic", here.topic, room_id=room_id, first=0)
        await growth(here, report, "the join of somebody known", here.join, room_id=room_id, first=known)
        await growth(
            here, report, "a newcomer, user and join", here.join, room_id=room_id, first=newcomers, limit=""
        )
        await growth(here, report, "a message", here.say, room_id=room_id, first=0, limit="")
        id_index(here, report)
        await authorising(here, room_id, report)
        await resolving(here, room_id, report)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="keep the figures here")
    parser.add_argument("--members", type=int, default=10_000, help="how many the room has at first")
    parser.add_argument("--changes", type=int, default=2_000, help="of each kind, when growth is measured")
    asked = parser.parse_args(arguments)
    report = Report(asked.members, asked.changes)
    with tempfile.TemporaryDirectory(prefix="atrium-bench-") as name:
        folder = Path(name)
        with own_database(folder, "state") as (postgres, dsn):
            migrate.apply(dsn)
            print(describe(dsn))
            asyncio.run(measure(dsn, folder, postgres.pid or 0, report))
    if asked.json:
        asked.json.write_text(json.dumps(report.figures, indent=2))


if __name__ == "__main__":
    main()
