"""Durable work: once in a cluster, never lost, bounded; and what becomes of it when handlers, processes and versions fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import psycopg
import pytest
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from homeserver.jobs import service
from homeserver.jobs.service import Jobs
from homeserver.jobs.types import MAX_PAYLOAD, GiveUp, JobKind, Retry, TooManyJobs, TryLater
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.runtime.periodic import PeriodicRunner
from homeserver.storage.database import Database
from tests.support.waiting import until


class Payload(msgspec.Struct, frozen=True):
    text: str


KIND = JobKind("test.job", Payload, Retry(first=0.05, factor=2.0, longest=0.2, attempts=4))


@dataclass
class Process:
    """What stands for a process: jobs of its own on the common database."""

    db: Database
    jobs: Jobs
    runner: PeriodicRunner

    def die(self) -> None:
        for task in (*self.runner._tasks.values(), *(each.task for each in self.jobs._running.values())):
            task.cancel()

    async def defer(self, text: str, *, kind: JobKind[Payload] = KIND, **options: Any) -> None:
        async with self.db.transaction() as tx:
            await self.jobs.add(tx, kind, Payload(text), **options)
        self.jobs.wake()

    async def rows(self) -> list[tuple[Any, ...]]:
        async with self.db.read() as tx:
            return await tx.all(
                "SELECT kind, attempts, failed_at IS NOT NULL, cause FROM jobs ORDER BY job_nid"
            )


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    monkeypatch.setattr(service, "POLL", 0.1)
    async with Database(database, size=6) as db:
        running: list[Process] = []

        async def begin(handler: Any = None, kind: JobKind[Payload] = KIND) -> Process:
            jobs = Jobs(db, SystemClock(), Entropy())
            if handler is not None:
                jobs.handle(kind, handler)
            runner = PeriodicRunner(jobs.periodic(), db, SystemClock(), Entropy())
            runner.start()
            running.append(Process(db, jobs, runner))
            return running[-1]

        yield begin
        for process in running:
            await asyncio.gather(process.runner.stop(), process.jobs.stop(within=0.1))


def nothing_left(process: Process) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        try:
            return not await process.rows()
        except psycopg.OperationalError:  # where the test has cut the connections
            return False

    return holds


async def test_a_job_is_done_at_once_and_only_if_its_cause_was_committed(start: Start) -> None:
    done: list[str] = []

    async def handler(payload: Payload) -> None:
        done.append(payload.text)

    process = await start(handler)
    with pytest.raises(ValueError, match="cause"):
        async with process.db.transaction() as tx:
            await process.jobs.add(tx, KIND, Payload("never"))
            raise ValueError("the cause failed")
    await process.defer("now", key="k")
    assert await process.jobs.done(KIND, "k", within=60)
    assert done == ["now"]
    assert await process.rows() == []


async def test_a_job_is_done_once_in_a_cluster(start: Start) -> None:
    done: list[str] = []

    async def handler(payload: Payload) -> None:
        await asyncio.sleep(0.001)
        done.append(payload.text)

    processes = [await start(handler) for _ in range(3)]
    wanted = [f"{number}" for number in range(60)]
    for number, text in enumerate(wanted):
        await processes[number % 3].defer(text)
    await until(nothing_left(processes[0]))
    assert sorted(done) == sorted(wanted)


async def test_a_lease_that_is_renewed_while_its_job_ends_is_not_lost(start: Start) -> None:
    """The row is gone already, the task is not: that is no reason to cut it."""
    noted, may_end = asyncio.Event(), asyncio.Event()

    async def handler(_: Payload) -> None: ...

    process = await start(handler)
    note = process.jobs._note

    async def slow(*arguments: Any) -> Any:
        written = await note(*arguments)
        noted.set()
        await may_end.wait()
        return written

    process.jobs._note = slow  # type: ignore[method-assign]
    await process.defer("a", key="a")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(process.jobs.done(KIND, "a", within=60))
        await noted.wait()
        with structlog.testing.capture_logs() as lines:
            await process.jobs.poll()
            await asyncio.sleep(0.05)
        may_end.set()
    assert waiting.result()
    assert [line["event"] for line in lines if line["event"].startswith("job")] == []


async def test_what_fails_is_tried_again_with_pauses_and_given_up_in_the_end(start: Start) -> None:
    attempts: list[str] = []

    async def handler(payload: Payload) -> None:
        attempts.append(payload.text)
        if payload.text == "hopeless":
            raise GiveUp("550")
        if payload.text == "bad" or attempts.count(payload.text) < 3:
            raise (TryLater("451") if payload.text == "later" else KeyError("x"))

    process = await start(handler)
    for text in ("bad", "later", "hopeless"):
        await process.defer(text)

    async def all_over() -> bool:
        return [row[2] for row in await process.rows()] == [True, True]

    await until(all_over)
    assert [attempts.count(text) for text in ("bad", "later", "hopeless")] == [4, 3, 1]
    assert [row[3] for row in await process.rows()] == ["KeyError", "550"]


async def test_who_waits_hears_of_a_failure_and_of_another_process(start: Start) -> None:
    async def bad(payload: Payload) -> None:
        raise KeyError("x")

    async def good(payload: Payload) -> None:
        await asyncio.sleep(0.05)

    first = await start(bad)
    await first.defer("a", key="a")
    assert not await first.jobs.done(KIND, "a", within=60)
    first.die()
    second = await start(good)
    assert await first.jobs.done(KIND, "a", within=60), "done by the other one"
    assert not await second.jobs.done(JobKind("test.unknown", Payload), "a", within=60)


async def test_a_job_of_a_killed_process_is_done_by_another_when_its_lease_is_over(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LEASE", 4.0)
    begun, done = asyncio.Event(), asyncio.Event()

    async def hang(_: Payload) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def handler(_: Payload) -> None:
        done.set()

    dying = await start(hang)
    await dying.defer("a")
    await begun.wait()
    await asyncio.sleep(4.5)
    assert [row[1] for row in await dying.rows()] == [1], "its lease is renewed while it lives"
    dying.die()
    other = await start(handler)
    await asyncio.wait_for(done.wait(), 60)
    await until(nothing_left(other))


async def test_who_lost_the_lease_stops(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asyncio.Event()
    begun = asyncio.Event()

    async def hang(_: Payload) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    process = await start(hang)
    await process.defer("a")
    await begun.wait()
    async with process.db.transaction() as tx:
        await tx.execute("UPDATE jobs SET owner = 'somebody else', due_at = now() + interval '1 hour'")
    await asyncio.wait_for(ended.wait(), 60)
    await asyncio.sleep(0.05)
    assert [row[1:3] for row in await process.rows()] == [(1, False)]


async def test_at_an_orderly_end_others_go_on_at_once(start: Start) -> None:
    begun, done = asyncio.Event(), asyncio.Event()

    async def hang(_: Payload) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def handler(_: Payload) -> None:
        done.set()

    ending = await start(hang)
    await ending.defer("a")
    await begun.wait()
    await asyncio.gather(ending.runner.stop(), ending.jobs.stop(within=0.05))
    await start(handler)
    await asyncio.wait_for(done.wait(), 20)  # not when its lease is over


async def test_a_job_deferred_again_while_it_is_under_way_is_done_once_more_with_the_new_payload(
    start: Start,
) -> None:
    may_go_on, begun, done = asyncio.Event(), asyncio.Event(), []

    async def handler(payload: Payload) -> None:
        begun.set()
        await may_go_on.wait()
        done.append(payload.text)

    process = await start(handler)
    await process.defer("one", key="k")
    await begun.wait()
    await process.defer("two", key="k")
    await process.defer("three", key="k")
    waiting = asyncio.create_task(process.jobs.done(KIND, "k", within=60))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    may_go_on.set()
    assert await waiting
    assert done == ["one", "three"]


async def test_a_job_can_be_scheduled(start: Start) -> None:
    done = asyncio.Event()

    async def handler(_: Payload) -> None:
        done.set()

    process = await start(handler)
    began = asyncio.get_running_loop().time()
    await process.defer("a", after=0.5)
    await asyncio.wait_for(done.wait(), 60)
    assert asyncio.get_running_loop().time() - began >= 0.5


async def test_all_is_bounded(start: Start) -> None:
    at_once, most_at_once = 0, 0
    may_go_on = asyncio.Event()

    async def handler(_: Payload) -> None:
        nonlocal at_once, most_at_once
        at_once += 1
        most_at_once = max(at_once, most_at_once)
        await may_go_on.wait()
        at_once -= 1

    kind = replace(KIND, at_once=2, most=5)
    process = await start(handler, kind)
    for number in range(5):
        await process.defer(f"{number}", kind=kind)
    with pytest.raises(TooManyJobs):
        await process.defer("6", kind=kind)
    with pytest.raises(ValueError, match="bytes"):
        await process.defer("x" * MAX_PAYLOAD, kind=kind)

    async def two_have_begun() -> bool:
        return at_once >= 2

    await until(two_have_begun)
    await asyncio.sleep(0.3)
    assert most_at_once == 2
    may_go_on.set()
    await until(nothing_left(process))
    assert most_at_once == 2


async def test_an_attempt_is_bounded_in_time(start: Start) -> None:
    async def hang(_: Payload) -> None:
        await asyncio.Event().wait()

    kind = replace(KIND, timeout=0.05, retry=Retry(attempts=1))
    process = await start(hang, kind)
    await process.defer("a", kind=kind)

    async def given_up() -> bool:
        return [row[2:] for row in await process.rows()] == [(True, "TimeoutError")]

    await until(given_up, within=60)


async def test_kinds_that_a_process_does_not_know_wait_for_one_that_does(start: Start) -> None:
    """A rolling upgrade: the old process leaves alone what the new one defers."""
    done = asyncio.Event()

    async def handler(_: Payload) -> None:
        done.set()

    old = await start()
    await old.defer("a")
    await asyncio.sleep(0.3)
    assert [row[1] for row in await old.rows()] == [0]
    await start(handler)
    await asyncio.wait_for(done.wait(), 60)


async def test_a_slow_kind_holds_up_no_other(start: Start) -> None:
    done = asyncio.Event()

    async def hang(_: Payload) -> None:
        await asyncio.Event().wait()

    async def handler(_: Payload) -> None:
        done.set()

    process = await start(hang)
    other = JobKind("test.other", Payload)
    process.jobs.handle(other, handler)
    for _ in range(20):
        await process.defer("slow")
    await process.defer("quick", kind=other)
    await asyncio.wait_for(done.wait(), 20)


async def test_what_is_given_up_is_kept_a_while_and_counted(start: Start) -> None:
    async def bad(_: Payload) -> None:
        raise GiveUp("550")

    process = await start(bad)
    await process.defer("a")

    async def given_up() -> bool:
        return [row[2] for row in await process.rows()] == [True]

    await until(given_up)
    await process.jobs._count()
    registry = CollectorRegistry()
    registry.register(process.jobs.figures)
    text = generate_latest(registry).decode()
    assert 'atrium_job_attempts_total{kind="test.job",outcome="given_up"} 1.0' in text
    assert 'atrium_jobs_failed{kind="test.job"} 1.0' in text
    assert 'atrium_jobs_waiting{kind="test.job"} 0.0' in text
    await process.jobs._forget_failed()
    assert len(await process.rows()) == 1
    async with process.db.transaction() as tx:
        await tx.execute("UPDATE jobs SET failed_at = failed_at - interval '8 days'")
    await process.jobs._forget_failed()
    assert await process.rows() == []


async def test_a_database_that_goes_away_under_a_job_loses_nothing(start: Start, database: str) -> None:
    """What was done while the database was away is noted when it is back."""
    done: list[str] = []

    async def handler(payload: Payload) -> None:
        done.append(payload.text)
        if len(done) == 1:
            async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    process = await start(handler)
    await process.defer("a")
    await until(nothing_left(process))
    assert done == ["a"]
