"""Periodic work that runs once in a cluster: by the database's clock, taken over from who dies, due across restarts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from homeserver.runtime import periodic
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.runtime.periodic import PeriodicRunner, every
from homeserver.runtime.periodic_store import list_work
from homeserver.storage.database import Database
from tests.support.waiting import until


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    async with Database(database, size=8) as db:
        yield db


@asynccontextmanager
async def process(
    db: Database, call: Any, *, interval: float = 0.2, first: float = 0.0
) -> AsyncIterator[PeriodicRunner]:
    item = every(interval, call, name="work", once_in_cluster=True, first=first)
    runner = PeriodicRunner([item], db, SystemClock(), Entropy())
    runner.start()
    try:
        yield runner
    finally:
        await runner.stop(within=0.1)


async def test_one_process_at_a_time_runs_it_at_its_interval(db: Database) -> None:
    at_once, most, runs = 0, 0, 0

    async def call() -> None:
        nonlocal at_once, most, runs
        at_once, runs = at_once + 1, runs + 1
        most = max(at_once, most)
        await asyncio.sleep(0.05)
        at_once -= 1

    async with AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(process(db, call, interval=0.5))
        began = time.monotonic()

        async def several() -> bool:
            return runs >= 5

        await until(several)
        took = time.monotonic() - began
    assert most == 1
    assert runs <= took / 0.5 + 2, "not five times as often"


async def test_it_is_not_run_again_only_because_a_process_starts(db: Database) -> None:
    runs: list[int] = []

    async def call() -> None:
        runs.append(1)

    async def done() -> bool:
        async with db.read() as tx:
            asked = "SELECT 1 FROM periodic_work WHERE owner IS NULL AND succeeded_at IS NOT NULL"
            return bool(await tx.value(asked))

    async with process(db, call, interval=60):
        await until(done)
    for _ in range(2):
        async with process(db, call, interval=60):
            await asyncio.sleep(0.2)
    assert runs == [1]


async def test_a_process_that_dies_in_the_middle_is_followed_by_another(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "LEASE", 4.0)
    monkeypatch.setattr(periodic, "FIRST_RETRY", 0.1)
    begun, taken_over = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def call() -> None:
        taken_over.set()

    async with process(db, hang) as dying:
        await asyncio.wait_for(begun.wait(), 60)
        async with process(db, call):
            await asyncio.sleep(4.5)
            assert not taken_over.is_set(), "the lease is renewed"
            async with db.transaction() as tx:  # as a process would leave it that was killed
                await tx.execute("UPDATE periodic_work SET owner = 'dead'")
            for task in dying._tasks.values():
                task.cancel()
            await asyncio.wait_for(taken_over.wait(), 60)


async def test_a_process_that_stops_in_the_middle_is_followed_at_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "LEASE", 300.0)  # it is given up, not over
    begun, taken_over = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def call() -> None:
        taken_over.set()

    async with process(db, hang, interval=60):
        await asyncio.wait_for(begun.wait(), 60)
    async with process(db, call, interval=60):
        await asyncio.wait_for(taken_over.wait(), 60)


async def test_who_lost_the_lease_stops(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "LEASE", 2.0)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with process(db, hang, interval=60) as runner:
        await asyncio.wait_for(begun.wait(), 60)
        async with db.transaction() as tx:
            await tx.execute(
                "UPDATE periodic_work SET owner = 'other', lease_until = now() + interval '1 hour'"
            )
        await asyncio.wait_for(ended.wait(), 60)

        async def has_failed() -> bool:
            return runner.figures("work").failed >= 1

        await until(has_failed)
    async with db.read() as tx:
        assert await tx.value("SELECT owner FROM periodic_work") == "other"


async def test_failures_are_counted_for_the_cluster(db: Database) -> None:
    async def fail() -> None:
        raise KeyError("x")

    async def twice() -> bool:
        async with db.read() as tx:
            return any(each.failures >= 2 for each in await list_work(tx))

    async with process(db, fail, interval=0.1):
        await until(twice)
    async with db.read() as tx:
        (work,) = await list_work(tx)
    assert work.name == "work"
    assert work.failures >= 2
    assert work.since_success is None
