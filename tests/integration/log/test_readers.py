"""Readers of the log: in order, at least once, never again what was acknowledged, by one process of a cluster."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

import pytest

from homeserver.log.entries import Entry, StructSink
from homeserver.log.readers import cursor as cursors
from homeserver.log.readers import runner as runners
from homeserver.log.readers import slices, store
from homeserver.log.readers.types import GiveUp, Item, Slice
from tests.support.notes import Note, NoteProcess, NoteSource, note_process, note_reader


class OtherSide:
    """Takes what is delivered; may be told to refuse, hang, or give up."""

    def __init__(self) -> None:
        self.got: dict[str, list[int]] = defaultdict(list)
        self.calls: list[tuple[str, list[int]]] = []
        self.refuses: set[str] = set()
        self.hangs: set[str] = set()

    async def __call__(self, key: str, items: Sequence[Item[Note]]) -> None:
        self.calls.append((key, [item.value.number for item in items]))
        if key in self.hangs:
            await asyncio.Event().wait()
        if key in self.refuses:
            raise ConnectionRefusedError(key)
        self.got[key] += [item.value.number for item in items]


async def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # what is waited for does not say when it is so
            await asyncio.sleep(0.01)


async def rows(process: NoteProcess) -> dict[str, int]:
    async with process.db.read() as tx:
        return dict(await tx.all("SELECT key, position FROM log_cursors WHERE reader = 'notes'"))


async def idle(process: NoteProcess) -> None:
    """Until the scan position is recorded and nothing is left to deliver."""
    async with asyncio.timeout(60):
        while True:
            async with process.db.read() as tx:
                status = [s for s in await store.list_readers(tx) if s.name == "notes"]
            if status and status[0].position == process.tail.position and not await rows(process):
                return
            await asyncio.sleep(0.02)


async def recorded(process: NoteProcess) -> None:
    """Until it is recorded how far was looked: once a second."""
    async with asyncio.timeout(60):
        while True:
            async with process.db.read() as tx:
                status = [s for s in await store.list_readers(tx) if s.name == "notes"]
            if status and status[0].position == process.tail.position:
                return
            await asyncio.sleep(0.02)


async def test_every_cursor_gets_what_concerns_it_in_order(database: str) -> None:
    other = OtherSide()
    async with note_process(database, note_reader(other, batch=7)) as process:
        for number in range(60):
            await process.write(Note("ab"[number % 2], number), Note("", number))
        await until(lambda: len(other.got["a"]) == len(other.got["b"]) == 30)
        assert other.got == {"a": list(range(0, 60, 2)), "b": list(range(1, 60, 2))}
        assert max(len(numbers) for _, numbers in other.calls) <= 7
        await idle(process)
        assert not process.readers.runners["notes"].cursors, "who has nothing to do is not remembered"


async def test_a_reader_begins_at_the_end_of_the_log_unless_it_wants_the_beginning(database: str) -> None:
    early, late = OtherSide(), OtherSide()
    async with note_process(database) as process:
        await process.write(Note("a", 1))
    first = note_reader(early, name="early")
    second = note_reader(late, name="late", from_beginning=False)
    async with note_process(database, first, second) as process:
        await until(lambda: len(process.readers.runners) == 2)
        await process.write(Note("a", 2))
        await until(lambda: bool(late.got["a"]) and len(early.got["a"]) == 2)
    assert (early.got["a"], late.got["a"]) == ([1, 2], [2])


async def test_what_is_refused_comes_again_and_delays_nobody_else(database: str) -> None:
    other = OtherSide()
    other.refuses.add("bad")
    other.hangs.add("slow")
    async with note_process(database, note_reader(other, timeout=0.05)) as process:
        await process.write(Note("bad", 1), Note("good", 2), Note("slow", 3))
        await until(lambda: other.got["good"] == [2])
        await process.write(Note("bad", 4))
        await until(lambda: sum(key == "bad" for key, _ in other.calls) >= 3)
        assert all(numbers[0] == 1 for key, numbers in other.calls if key == "bad")
        other.refuses.clear()
        other.hangs.clear()
        await until(lambda: other.got["bad"] == [1, 4] and other.got["slow"] == [3])
        await idle(process)


async def test_what_the_other_side_will_never_take_is_passed_over(database: str) -> None:
    got: list[int] = []

    async def deliver(_: str, items: Sequence[Item[Note]]) -> None:
        if items[0].value.number == 1:
            raise GiveUp("too large")
        got.extend(item.value.number for item in items)

    async with note_process(database, note_reader(deliver, batch=1)) as process:
        await process.write(Note("a", 0), Note("a", 1), Note("a", 2))
        await until(lambda: got == [0, 2])
        assert process.readers.figures["notes"].given_up == 1


async def test_a_restart_goes_on_where_it_was_acknowledged(database: str) -> None:
    other = OtherSide()
    other.refuses.add("b")
    async with note_process(database, note_reader(other)) as process:
        await process.write(*(Note("ab"[n % 2], n) for n in range(20)))
        await until(lambda: len(other.got["a"]) == 10 and bool(other.calls[-1:]))
        await recorded(process)
        assert set(await rows(process)) == {"b"}
    other.refuses.clear()
    async with note_process(database, note_reader(other)) as process:
        await process.write(Note("a", 20), Note("b", 21))
        await until(lambda: len(other.got["b"]) == 11 and len(other.got["a"]) == 11)
        assert other.got == {"a": list(range(0, 21, 2)), "b": list(range(1, 22, 2))}
        await idle(process)


async def test_a_process_that_dies_is_followed_within_five_seconds(database: str) -> None:
    other = OtherSide()
    async with note_process(database, note_reader(other)) as first:
        await first.write(Note("a", 1))
        await until(lambda: other.got["a"] == [1])
        async with note_process(database, note_reader(other)) as second:
            await asyncio.sleep(0.5)
            assert not second.readers.runners, "one at a time"
            first.die()
            died = time.monotonic()
            await second.write(Note("a", 2))
            await until(lambda: other.got["a"] == [1, 2])
            took = time.monotonic() - died
            print(f"taken over after {took:.1f} s")
            assert took < 5.5


async def test_a_process_that_stops_lets_another_go_on_at_once(database: str) -> None:
    other = OtherSide()
    async with AsyncExitStack() as running:
        async with note_process(database, note_reader(other)) as first:
            await until(lambda: bool(first.readers.runners))
            second = await running.enter_async_context(note_process(database, note_reader(other)))
            await first.write(Note("a", 1))
            await until(lambda: other.got["a"] == [1])
            assert not second.readers.runners
        began = time.monotonic()
        await second.write(Note("a", 2))
        await until(lambda: other.got["a"] == [1, 2])
        assert time.monotonic() - began < 2.0


async def test_who_lost_the_lease_records_nothing_any_more(database: str) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def deliver(_: str, __: Sequence[Item[Note]]) -> None:
        entered.set()
        await leave.wait()

    async with note_process(database, note_reader(deliver)) as process:
        await process.write(Note("a", 1))
        await entered.wait()
        async with process.db.transaction() as tx:
            await tx.execute(
                "UPDATE log_readers SET owner = 'another', lease_until = now() + interval '1 hour'"
            )
        leave.set()
        await until(lambda: not process.readers.runners)
        assert await rows(process) == {}


async def test_memory_is_bounded_and_what_does_not_fit_is_read_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "MAX_ITEMS", 5)
    monkeypatch.setattr(runners, "MAX_ITEMS", 12)
    monkeypatch.setattr(slices, "AT_ONCE", 10)
    other = OtherSide()
    other.refuses.update("abcd")
    async with note_process(database, note_reader(other, batch=3)) as process:
        await process.write(*(Note("abcd"[n % 4], n) for n in range(200)))
        await until(lambda: bool(process.readers.runners))
        runner = process.readers.runners["notes"]
        await until(lambda: runner.scanned == process.tail.position)
        assert sum(len(c.items) for c in runner.cursors.values()) <= 12
        other.refuses.clear()
        await until(lambda: all(len(other.got[key]) == 50 for key in "abcd"))
        assert {
            key: numbers == list(range(i, 200, 4))
            for i, (key, numbers) in enumerate(sorted(other.got.items()))
        } == dict.fromkeys("abcd", True)
        await idle(process)
        assert runner._kept == 0


async def test_behind_memory_the_tables_are_read(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other, source = OtherSide(), NoteSource()
    async with note_process(database) as process:
        for start in range(0, 500, 50):
            await process.write(*(Note("a", n) for n in range(start, start + 50)))
        async with process.db.transaction() as tx:
            await tx.execute("DELETE FROM log_feed")
    monkeypatch.setattr(slices, "AT_ONCE", 64)
    async with note_process(database, note_reader(other, sources=[source])) as process:
        await until(lambda: len(other.got["a"]) == 500)
        assert other.got["a"] == list(range(500))
        assert source.reads >= 8


async def test_thousands_of_cursors_with_nothing_to_do_cost_no_queries(database: str) -> None:
    other = OtherSide()
    async with note_process(database, note_reader(other), alone=True) as process:
        await process.write(*(Note(f"k{n}", n) for n in range(5_000)))
        await until(lambda: len(other.got) == 5_000, 60)
        await idle(process)
        spent = []
        for _ in range(3):
            began = time.process_time()
            await asyncio.sleep(1)
            spent.append(time.process_time() - began)
        print(f"idle: {min(spent):.2%} of a core")
        assert min(spent) < 0.05, "whatever else the process does costs as well"


async def test_a_failing_cursor_is_tried_again_when_somebody_asks(database: str) -> None:
    other = OtherSide()
    other.refuses.add("a")
    backoff = runners.Reader.__dataclass_fields__["backoff"].default_factory()  # type: ignore[misc]
    async with note_process(
        database, note_reader(other, backoff=backoff.__class__(first=300, longest=300))
    ) as process:
        await process.write(Note("a", 1))
        await until(lambda: len(other.calls) == 1)
        other.refuses.clear()
        async with asyncio.timeout(60):
            while True:  # it is written down that it fails
                async with process.db.transaction() as tx:
                    if await store.retry_now(tx, "notes", "a") == 1:
                        break
                await asyncio.sleep(0.02)
        await until(lambda: other.got["a"] == [1])


async def test_nothing_is_purged_that_a_cursor_has_not_passed(database: str) -> None:
    other = OtherSide()
    other.refuses.add("a")
    async with note_process(database, note_reader(other)) as process:
        await until(lambda: bool(process.readers.runners))
        start = process.readers.runners["notes"].recorded
        await process.write(Note("a", 1), Note("b", 2), Note("b", 3))
        await until(lambda: other.got["b"] == [2, 3])
        await asyncio.sleep(1.2)  # what is recorded once a second is what it must not go beyond
        async with process.db.read() as tx:
            assert await store.find_floor(tx) == start
        other.refuses.clear()
        await idle(process)
        async with process.db.read() as tx:
            assert await store.find_floor(tx) == process.tail.position


class Remark(Entry, frozen=True):
    """Of no concern to those who read notes."""


class RemarkSink(StructSink[Remark]):
    kind = "test_remark"
    entry_type = Remark


async def test_nobody_is_woken_for_what_no_source_has(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other, looks = OtherSide(), 0
    read = slices.Slices.read

    async def counted(self: slices.Slices, after: int, upto: int) -> Slice:
        nonlocal looks
        looks += 1
        return await read(self, after, upto)

    monkeypatch.setattr(slices.Slices, "read", counted)
    async with note_process(database, note_reader(other)) as process:
        process.tail.register(RemarkSink())
        await process.write(Note("a", 0))
        await until(lambda: other.got["a"] == [0])
        await idle(process)
        before = looks
        for _ in range(5):
            await process.log.append(Remark(), Remark())
        await idle(process)
        assert looks == before, "its position moves all the same"
        for number in range(1, 20):
            await asyncio.gather(process.log.append(Remark()), process.write(Note("a", number)))
            await process.log.append(Remark())
        await until(lambda: len(other.got["a"]) == 20)
        await idle(process)
    assert other.got["a"] == list(range(20))


async def test_what_may_be_repeated_is_recorded_with_the_scan(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = OtherSide()
    monkeypatch.setattr(runners, "CHECKPOINT", 3600.0)
    async with note_process(database, note_reader(other, repeatable=True)) as process:
        await process.write(Note("a", 1), Note("b", 2))
        await until(lambda: other.got == {"a": [1], "b": [2]})
        assert await rows(process) == {}
        process.die()
    monkeypatch.setattr(runners, "CHECKPOINT", 0.1)
    other.refuses.add("b")
    async with note_process(database, note_reader(other, repeatable=True)) as process:
        await until(lambda: other.got["a"] == [1, 1])
        await recorded(process)
        async with asyncio.timeout(60):
            while set(await rows(process)) != {"b"}:  # noqa: ASYNC110  # who is behind has a row, nobody else
                await asyncio.sleep(0.02)
        other.refuses.clear()
        await until(lambda: other.got["b"] == [2, 2])
        await idle(process)
        process.die()
    async with note_process(database, note_reader(other, repeatable=True)) as process:
        await process.write(Note("a", 3))
        await until(lambda: other.got["a"] == [1, 1, 3])
    assert other.got["b"] == [2, 2], "what was recorded never comes again"
