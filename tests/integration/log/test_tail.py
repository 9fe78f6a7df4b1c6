"""The tail meets what it cannot make sense of, and goes on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from homeserver.log.entries import ENTRY_BYTES, Entry, Position, StructSink, Unknown, Written
from homeserver.log.tail import Tail
from homeserver.log.writer import LogWriter
from homeserver.runtime.clock import SystemClock
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx


class Word(Entry, frozen=True):
    text: str


class Number(Entry, frozen=True):
    value: int


class WordSink(StructSink[Word]):
    kind = "word"
    entry_type = Word


class NumberSink(StructSink[Number]):
    kind = "number"
    entry_type = Number


class ForgetfulSink(WordSink):
    """The rows of some of its words are gone."""

    async def decode(self, tx: Tx, rows: Sequence[tuple[Position, bytes]]) -> list[Written[Word]]:
        return [each for each in await super().decode(tx, rows) if each.entry.text != "gone"]


class Words:
    """What was said; cannot bear to hear "bad"."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.resets = 0

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {Word: self._hear}

    def reset(self) -> None:
        self.said.clear()
        self.resets += 1

    def _hear(self, _: Position, entry: Word) -> None:
        self.said.append(entry.text)
        if entry.text == "bad":
            raise RuntimeError("half of it was noted")


class Log:
    """One process's log, with a projection."""

    def __init__(self, db: Database, *sinks: Any) -> None:
        self.tail = Tail(db, sinks, alone=False)
        self.words, self.others = Words(), Words()
        self.others._hear = lambda _, entry: self.others.said.append(entry.text)  # type: ignore[method-assign]  # bears all
        self.tail.attach(self.words)
        self.tail.attach(self.others)
        self.writer = LogWriter(db, self.tail, SystemClock())


@asynccontextmanager
async def logs(dsn: str, *processes: Sequence[Any]) -> AsyncIterator[list[Log]]:
    async with Database(dsn) as db:
        running = [Log(db, *sinks) for sinks in processes]
        for each in running:
            await each.tail.start()
        tasks = [asyncio.create_task(each.writer.run()) for each in running]
        try:
            yield running
        finally:
            for each in running:
                each.writer.close()
            await asyncio.gather(*tasks)


async def test_a_projection_whose_handler_failed_is_dropped_and_the_others_are_not(database: str) -> None:
    async with logs(database, [WordSink()]) as [log]:
        await log.writer.append(Word("one"))
        await log.writer.append(Word("bad"))
        assert (log.words.said, log.words.resets) == ([], 1), "what is half known is not known"
        assert (log.others.said, log.others.resets) == (["one", "bad"], 0)
        await log.writer.append(Word("two"))
        assert log.words.said == ["two"]


async def test_who_is_told_of_a_batch_and_fails_keeps_nobody_from_hearing_of_it(database: str) -> None:
    async with logs(database, [WordSink()]) as [log]:
        heard: list[int] = []

        def fails(_: object) -> None:
            raise RuntimeError("no")

        log.tail.after_batch(fails)
        log.tail.after_batch(lambda written: heard.append(len(written)))
        assert await log.writer.append(Word("one")) == range(1, 2)
        assert heard == [1]


async def test_kinds_of_a_newer_process_are_passed_over(database: str) -> None:
    """Two versions serve side by side while a cluster is brought up to date."""
    async with logs(database, [WordSink(), NumberSink()], [WordSink()]) as [newer, older]:
        for number in range(3):
            await newer.writer.append(Word(f"w{number}"), Number(number))
        await older.tail.fresh()
        assert older.tail.position == newer.tail.position == 6
        assert older.words.said == ["w0", "w1", "w2"]
        assert older.words.resets == 0
        kinds = [type(each.entry) for each in older.tail.since(0)]
        assert kinds == [Word, Unknown] * 3, "every position has its entry"
        assert await older.writer.append(Word("here")) == range(7, 8)
        assert older.words.said[-1] == "here"


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among others"])
async def test_an_entry_whose_row_is_gone_drops_the_projections_and_reading_goes_on(
    database: str, alone: bool
) -> None:
    async with logs(database, [WordSink()], [ForgetfulSink()]) as [one, two]:
        await two.writer.append(Word("before"))
        said = ["gone"] if alone else ["a", "gone", "b"]
        await one.writer.append(*(Word(text) for text in said))
        await two.tail.fresh()
        assert two.tail.position == one.tail.position
        assert two.words.resets == 1
        assert two.tail.floor == two.tail.position, "nobody reads on from before what is missing"
        await one.writer.append(Word("after"))
        await two.tail.fresh()
        assert two.words.said == ["after"]


async def test_a_payload_that_cannot_be_read_does_not_end_reading(database: str) -> None:
    async with logs(database, [WordSink()], [WordSink()]) as [one, two]:
        await one.writer.append(Word("a"), Word("b"))
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
            await connection.execute("UPDATE log_feed SET payload = 'x' WHERE position = 2")
        await two.tail.fresh()
        assert (two.tail.position, two.words.resets) == (2, 1)
        await one.writer.append(Word("c"))
        await two.tail.fresh()
        assert two.words.said == ["c"]


async def test_a_batch_is_acknowledged_though_what_came_before_it_cannot_be_read(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is committed. The database went away between the commit and the look at what others had written."""
    async with logs(database, [WordSink()], [WordSink()]) as [one, two]:
        await one.writer.append(Word("elsewhere"))

        def away(**_: object) -> None:
            raise psycopg.OperationalError("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(two.tail._db, "read", away)
            assert await two.writer.append(Word("here")) == range(2, 3)
        assert (two.tail.position, two.words.resets) == (2, 1)
        assert await two.writer.append(Word("again")) == range(3, 4)
        assert two.words.said == ["again"]


async def test_the_recent_log_has_a_bound_in_bytes_and_one_in_number(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.log.tail.RECENT_ENTRIES", 50)
    monkeypatch.setattr("homeserver.log.tail.RECENT_BYTES", 200_000)
    async with logs(database, [WordSink()]) as (log,):
        for _ in range(60):
            await log.writer.append(Word("short"))
        assert log.tail.position - log.tail.floor == 50
        for _ in range(40):
            await log.writer.append(Word("w" * 20_000))
        assert log.tail.position - log.tail.floor == 200_000 // (20_000 + ENTRY_BYTES)
        await log.writer.append(Word("w" * 300_000))
        assert log.tail.position - log.tail.floor == 1
        for _ in range(60):
            await log.writer.append(Word("short"))
        assert log.tail.position - log.tail.floor == 50


@pytest.mark.parametrize("steps", range(6))
async def test_who_is_told_to_end_in_the_moment_of_a_hint_ends(database: str, steps: int) -> None:
    """asyncio.wait_for forgets a cancellation that comes together with what is waited for (Python 3.11, gh-86296)."""
    async with Database(database) as db:
        tail = Tail(db, [WordSink()], alone=True)
        await tail.start()
        following = asyncio.create_task(tail.run())
        await asyncio.sleep(0.01)
        tail.hint()
        for _ in range(steps):
            await asyncio.sleep(0)
        following.cancel()
        done, _ = await asyncio.wait([following], timeout=30)
        following.cancel()
        assert done
