"""The pool: who may have a connection, in which order, and what happens to those who ask for too much."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import psycopg
import pytest

from homeserver.log.entries import Append
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.runtime.clock import SystemClock
from homeserver.storage.database import Database, DatabaseOverloaded, NestedConnection, Timeouts
from tests.support.tasks import beside
from tests.support.waiting import until as wait_until


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    async with Database(database, size=4, timeouts=Timeouts(acquire=60)) as opened:
        yield opened


async def hold(db: Database, until: asyncio.Event) -> None:
    async with db.read() as tx:
        await tx.value("SELECT 1")
        await until.wait()


async def ask(db: Database) -> int:
    async with db.read() as tx:
        return int(await tx.value("SELECT 1"))


async def taken(db: Database, count: int, until: asyncio.Event) -> list[asyncio.Task[None]]:
    """Tasks that hold so many connections until told otherwise."""
    tasks = [beside(hold(db, until)) for _ in range(count)]

    async def all_taken() -> bool:
        return db.used == count

    await wait_until(all_taken, every=0.001)
    return tasks


async def test_who_holds_a_connection_cannot_take_a_second_one(db: Database) -> None:
    async with db.read():
        with pytest.raises(NestedConnection):
            async with db.transaction():
                pass
        with pytest.raises(NestedConnection):  # nor with the help of another task
            await asyncio.gather(ask(db))
        assert await beside(ask(db)) == 1
    assert await ask(db) == 1, "what is given back is not held"
    assert db.usage == (0, 2, 0)


async def test_a_task_that_outlives_who_started_it_holds_nothing(db: Database) -> None:
    async def later() -> int:
        await asyncio.sleep(0.01)
        return await ask(db)

    async with db.read():
        task = asyncio.create_task(later())
    assert await task == 1


async def test_who_holds_a_connection_cannot_wait_for_the_log(db: Database) -> None:
    """The writer needs one as well."""
    log = LogWriter(db, Tail(db, [], alone=True), SystemClock())
    async with db.read():
        with pytest.raises(NestedConnection):
            log.add(Append(()))
    log.add(Append(()))


async def test_in_production_a_second_connection_is_counted_and_nobody_waits_for_it(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many tasks as connections, each asking for one more, would stand still until all of them are refused."""
    monkeypatch.setattr(Database, "strict", False)
    began = asyncio.Barrier(4)

    async def twice() -> int:
        async with db.read():
            await began.wait()
            async with db.read() as inner:
                return int(await inner.value("SELECT 1"))

    assert await asyncio.gather(*(twice() for _ in range(4))) == [1] * 4
    assert db.nested == 4
    used, idle, _ = db.usage
    assert (used, idle) == (0, 4), "no more are kept than the pool may have"


async def test_waiting_for_a_connection_is_bounded(database: str) -> None:
    async with Database(database, size=4, timeouts=Timeouts(acquire=1)) as db:
        done = asyncio.Event()
        holders = await taken(db, 4, done)
        with pytest.raises(DatabaseOverloaded):
            await ask(db)
        done.set()
        await asyncio.gather(*holders)
        assert await ask(db) == 1


async def test_who_came_first_is_served_first(db: Database) -> None:
    """Whoever comes by when a connection is given back is not before those who wait."""
    order: list[str] = []

    async def asks(name: str, *, first: bool = False) -> None:
        async with db.read(first=first) as tx:
            order.append(name)
            await tx.value("SELECT 1")

    done = asyncio.Event()
    holders = await taken(db, 4, done)
    waiting = [beside(asks("one")), beside(asks("two"))]
    await asyncio.sleep(0)
    waiting.append(beside(asks("the log", first=True)))
    await asyncio.sleep(0)
    holders[0].cancel()
    late = beside(asks("late"))
    await asyncio.gather(*waiting, late)
    done.set()
    await asyncio.gather(*holders, return_exceptions=True)
    assert order == ["the log", "one", "two", "late"]


async def test_who_gives_up_waiting_leaves_its_turn_to_the_next(db: Database) -> None:
    done = asyncio.Event()
    holders = await taken(db, 4, done)
    impatient = [beside(ask(db)) for _ in range(5)]
    patient = beside(ask(db))
    await asyncio.sleep(0.01)
    done.set()
    await asyncio.sleep(0)
    for task in impatient:  # some of them have been handed a connection in this moment
        task.cancel()
    assert await patient == 1
    await asyncio.gather(*holders, *impatient, return_exceptions=True)
    assert db.usage[0] == 0
    assert await asyncio.gather(*(ask(db) for _ in range(10))) == [1] * 10


async def test_an_unreachable_database_costs_those_who_wait_one_attempt_together() -> None:
    """A host that says nothing: whoever waits for a connection need not find out for themselves."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x"
        db = Database(dsn, size=2, timeouts=Timeouts(connect=2))
        start = time.monotonic()  # libpq's own patience is measured
        answers = await asyncio.gather(*(ask(db) for _ in range(50)), return_exceptions=True)
        took = time.monotonic() - start  # likewise
        assert all(isinstance(answer, psycopg.OperationalError) for answer in answers)
        assert took < 10, "one after the other, two at a time, would take fifty seconds"
        await db.close()


async def test_connections_that_ended_together_are_not_tried_one_by_one(db: Database) -> None:
    done = asyncio.Event()
    holders = await taken(db, 4, done)
    done.set()
    await asyncio.gather(*holders)
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with contextlib.closing(psycopg.connect(db.dsn, autocommit=True)) as other:
        other.execute(f"SELECT pg_terminate_backend(pid, 20000) {others}")
        # Without letting the loop see it.
        while other.execute(f"SELECT count(*) {others}").fetchone() != (0,):
            pass
    refused = 0
    for _ in range(2):
        try:
            await ask(db)
        except psycopg.OperationalError:
            refused += 1
    assert refused <= 1


async def test_nobody_waits_for_a_database_that_says_nothing(database: str) -> None:
    """A cut network refuses nothing. One finds out, the others hear of it at once, and when it is back it is used."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        db = Database(f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x", timeouts=Timeouts(connect=2))

        async def seconds() -> float:
            began = time.monotonic()
            with pytest.raises(psycopg.OperationalError):
                async with db.read():
                    pass
            return time.monotonic() - began

        assert await seconds() > 1.0
        assert min([await seconds() for _ in range(3)]) < 0.5
        db.dsn = database
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(psycopg.OperationalError):
                    async with db.read() as tx:
                        assert await tx.value("SELECT 1") == 1
                        break
                await asyncio.sleep(0.1)
        await db.close()
