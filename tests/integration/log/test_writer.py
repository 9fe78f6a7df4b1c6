"""The writer meets appends that the database refuses, a database that is away, and a COMMIT that is not answered."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from homeserver.log import store
from homeserver.log.entries import Append, Entry, StructSink
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.runtime.clock import SystemClock
from homeserver.storage import connection as connections
from homeserver.storage.database import Database, Timeouts


class Word(Entry, frozen=True):
    text: str


class WordSink(StructSink[Word]):
    kind = "word"
    entry_type = Word


class Counted(Database):
    """Counts the transactions that were begun."""

    begun = 0

    def transaction(self, **wish: Any) -> Any:
        self.begun += 1
        return super().transaction(**wish)


@asynccontextmanager
async def log_on(db: Database) -> AsyncIterator[LogWriter]:
    tail = Tail(db, [WordSink()], alone=True)
    log = LogWriter(db, tail, SystemClock())
    await tail.start()
    task = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        log.close()
        await task


async def written(dsn: str) -> list[bytes]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await (await connection.execute("SELECT payload FROM log_feed ORDER BY position")).fetchall()
    return [row[0] for row in rows]


def refused(batch: Any, _: object) -> None:
    """A name that somebody has."""
    batch.execute("INSERT INTO users (user_id) VALUES ('@taken:here')")


async def take_name(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO users (user_id) VALUES ('@taken:here')")


async def outcomes(log: LogWriter, appends: list[Append]) -> list[Any]:
    return await asyncio.gather(*[log.add(append) for append in appends], return_exceptions=True)


@pytest.mark.parametrize("bad", [[0], [511], [100, 101, 400], []])
async def test_a_refused_append_costs_its_batch_a_few_transactions(database: str, bad: list[int]) -> None:
    """Users can cause refusals: an alias, a device, a key of the same name at the same moment."""
    async with Counted(database) as db:
        await take_name(db)
        async with log_on(db) as log:
            db.begun = 0
            appends = [
                Append([Word(str(number))], alongside=refused if number in bad else None)
                for number in range(512)
            ]
            found = await outcomes(log, appends)
        assert [number for number, each in enumerate(found) if isinstance(each, Exception)] == bad
        assert all(isinstance(found[number], psycopg.errors.UniqueViolation) for number in bad)
        good = [each for each in found if isinstance(each, range)]
        assert good == [range(number, number + 1) for number in range(1, len(good) + 1)], (
            "in order, without gaps"
        )
        assert db.begun <= 1 + 19 * len(bad)
    assert len(await written(database)) == 512 - len(bad)


async def test_a_sink_that_fails_spoils_its_own_append_alone(database: str) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    async with Database(database) as db, log_on(db) as log:
        found = await outcomes(
            log, [Append([Word("a")]), Append([Word("b")], alongside=fails), Append([Word("c")])]
        )
        assert (found[0], found[2]) == (range(1, 2), range(2, 3))
        assert isinstance(found[1], RuntimeError)


async def test_a_database_that_cannot_be_reached_costs_a_batch_one_attempt(database: str) -> None:
    async with Counted(database, timeouts=Timeouts(connect=2)) as db, log_on(db) as log:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(50)
            real, db.dsn = db.dsn, f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=x"
            for connection in db._idle:
                connection.close()
            db.begun = 0
            start = time.monotonic()  # libpq's own patience is measured
            found = await outcomes(log, [Append([Word(str(number))]) for number in range(512)])
            took = time.monotonic() - start  # likewise
        assert all(isinstance(each, psycopg.OperationalError) for each in found)
        assert len({id(each) for each in found}) == 512, "each has an error of its own"
        assert (db.begun, took < 20) == (1, True)
        db.dsn = real
        assert await log.append(Word("back")) == range(1, 2)


async def test_a_full_disk_is_not_taken_for_somebodys_fault(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Counted(database) as db, log_on(db) as log:

        def full(*_: object) -> None:
            raise psycopg.errors.DiskFull("no space left on device")

        db.begun = 0
        found = await outcomes(
            log, [Append([Word(str(n))], alongside=full if n == 3 else None) for n in range(100)]
        )
        assert all(isinstance(each, psycopg.errors.DiskFull) for each in found)
        assert db.begun == 1


# ------------------------------------------------------------------------------------------------- answers that are lost


class Cut:
    """Loses the connection under the first flight that ends with COMMIT: before it is sent, or before its answer is read."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, when: str, then: Callable[[], Any] | None = None
    ) -> None:
        self.cuts = 0
        run = connections.Connection.run

        async def cut(connection: connections.Connection, commands: Any) -> Any:
            if self.cuts or not any(statement.sql == b"COMMIT" for statement, _ in commands):
                return await run(connection, commands)
            self.cuts += 1
            if when == "after":
                await run(connection, commands)
            connection._lost(psycopg.OperationalError("cut"))
            connection.unanswered = True
            if then is not None:
                then()
            raise psycopg.OperationalError("cut")

        monkeypatch.setattr(connections.Connection, "run", cut)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_commit_whose_answer_was_lost_is_not_done_twice_and_not_forgotten(
    database: str, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Receipts, state, membership: what has no transaction id would be doubled."""
    async with Database(database) as db, log_on(db) as log:
        await log.append(Word("before"))
        cut = Cut(monkeypatch, when)
        found = await asyncio.gather(*(log.append(Word(f"w{n}")) for n in range(5)))
        assert cut.cuts == 1
        assert found == [range(n, n + 1) for n in range(2, 7)]
        assert await log.append(Word("after")) == range(7, 8)
        assert log._tail.position == 7
    texts = [payload[-2:] for payload in await written(database)]
    assert texts == [b"re", b"w0", b"w1", b"w2", b"w3", b"w4", b"er"]


async def test_an_append_without_entries_is_not_done_twice_either(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves nothing in the feed by which it could be known."""

    def txn(batch: Any, _: object) -> None:
        batch.execute("INSERT INTO users (user_id) VALUES ('@new:here')")

    async with Database(database) as db, log_on(db) as log:
        Cut(monkeypatch, "after")
        assert await log.append(alongside=txn) == range(0)


async def test_another_transaction_of_the_same_number_is_not_taken_for_ours(database: str) -> None:
    """After a crash, or at a standby that has taken over, numbers and positions that were lost are given out again. API-09"""
    async with Database(database) as db, log_on(db) as log:
        await log.append(Word("before"))
        async with db.transaction() as tx:
            xid = await tx.value("SELECT pg_current_xact_id()::text")
            async with tx.pipeline(commit=True) as batch:
                store.insert_feed(batch, [(2, "word", b"another host's", None)])
                store.advance_head(batch, 2)

        async def committed(*rows: store.FeedRow) -> bool:
            async with db.transaction() as tx:
                return await store.is_committed(tx, xid, rows)

        assert await committed((2, "word", b"another host's", None))
        assert not await committed((2, "word", b"ours", None))
        assert not await committed((2, "word", b"another host's", None), (3, "word", b"ours", None))
        async with db.transaction() as tx, tx.pipeline(commit=True) as batch:
            store.empty_feed(batch)  # as a crash does
        assert await committed((2, "word", b"ours", None)), "it was committed before, and nothing after it"


async def test_the_writer_asks_until_the_database_is_back(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(database) as db, log_on(db) as log:
        real = db.dsn

        def away() -> None:
            db.dsn = "host=/nowhere dbname=x"
            asyncio.get_running_loop().call_later(0.5, setattr, db, "dsn", real)

        Cut(monkeypatch, "after", away)
        assert await asyncio.gather(log.append(Word("a")), log.append(Word("b"))) == [
            range(1, 2),
            range(2, 3),
        ]
    assert len(await written(database)) == 2


async def test_a_database_that_stays_away_is_told_to_whoever_waits(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nobody knows. The log goes on with what the database has when it is back."""
    monkeypatch.setattr("homeserver.log.writer.ASK_AGAIN", (0.01, 0.01))
    async with Database(database) as db, log_on(db) as log:
        real = db.dsn
        Cut(monkeypatch, "after", lambda: setattr(db, "dsn", "host=/nowhere dbname=x"))
        with pytest.raises(psycopg.OperationalError):
            await log.append(Word("perhaps"))
        db.dsn = real
        assert await log.append(Word("next")) == range(2, 3)
        assert log._tail.position == 2


async def test_what_is_lost_before_the_commit_is_written_once_more(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was restarted: connections of before are of no use."""
    async with Database(database) as db, log_on(db) as log:
        await log.append(Word("a"))
        for connection in db._idle:
            connection._lost(psycopg.OperationalError("gone"))
            connection.broken = False  # as long as nobody looks
        assert await asyncio.gather(log.append(Word("b")), log.append(Word("c"))) == [
            range(2, 3),
            range(3, 4),
        ]
