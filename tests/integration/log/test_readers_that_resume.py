"""Readers with many other sides, most of which may be away or slow: places, pauses, what is kept, what is read again."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence

from homeserver.log.readers import store
from homeserver.log.readers.runner import LET_GO_AFTER, Runner
from homeserver.log.readers.types import Behind, Item, NotNow, Slice
from tests.integration.log.test_readers import OtherSide, recorded, rows, until
from tests.support.notes import Note, NoteProcess, note_process, note_reader
from tests.support.waiting import until as holds


async def by_addressees(items: Sequence[Item[Note]]) -> list[Collection[str]]:
    return [frozenset(item.value.to.split()) for item in items]


def runner_of(process: NoteProcess) -> Runner:
    return process.readers.runners["notes"]


async def test_who_says_not_now_is_left_alone_for_as_long(database: str) -> None:
    asked: list[float] = []

    async def deliver(_: str, items: Sequence[Item[Note]]) -> None:
        asked.append(asyncio.get_running_loop().time())
        if len(asked) == 1:
            raise NotNow(0.6)

    async with note_process(database, note_reader(deliver)) as process:
        await process.write(Note("a", 1))
        await until(lambda: len(asked) == 2)
        assert asked[1] - asked[0] >= 0.6, "its own pause, not that of the reader"


async def test_a_part_of_what_was_handed_over_may_be_acknowledged(database: str) -> None:
    got: list[list[int]] = []

    async def deliver(_: str, items: Sequence[Item[Note]]) -> int:
        got.append([item.value.number for item in items[:3]])
        return min(3, len(items))

    async with note_process(database, note_reader(deliver)) as process:
        await process.write(*(Note("a", n) for n in range(8)))
        await until(lambda: sum(map(len, got)) == 8)
        assert [n for numbers in got for n in numbers] == list(range(8))


async def test_slow_and_failing_ones_take_no_place_from_the_others(database: str) -> None:
    other = OtherSide()
    other.hangs.update(f"h{n}" for n in range(6))
    reader = note_reader(other, at_once=2, struggling_at_once=1, timeout=0.2)
    async with note_process(database, reader) as process:
        await process.write(*(Note(key, 0) for key in sorted(other.hangs)))
        await until(
            lambda: {key for key, _ in other.calls} == other.hangs
        )  # each has had its one first chance
        object.__setattr__(reader, "timeout", 300.0)  # who hangs now, hangs
        await process.write(*(Note("good", n) for n in range(20)))
        await until(lambda: len(other.got["good"]) == 20)


async def test_a_nudge_delivers_without_items_and_not_to_who_is_left_alone(database: str) -> None:
    other = OtherSide()
    other.refuses.add("away")
    async with note_process(database, note_reader(other)) as process:
        await until(lambda: process.readers.runs("notes"))
        process.readers.nudge("notes", "a", 0.01)
        process.readers.nudge("notes", "a", 5.0)
        process.readers.nudge("nobody", "a", 0.0)
        await until(lambda: other.calls == [("a", [])])
        await process.write(Note("away", 1))
        await until(lambda: len(other.calls) >= 3)
        process.readers.nudge("notes", "away", 0.0)
        await asyncio.sleep(0.1)
        assert ("away", []) not in other.calls
        await recorded(process)
        assert set(await rows(process)) == {"away"}, "a nudge leaves no row"


class Resuming:
    """Another side that is away, and a reader that finds again what it lacks: the last note alone."""

    def __init__(self) -> None:
        self.other = OtherSide()
        self.asked: list[Behind] = []
        self.known: dict[str, list[Item[Note]]] = defaultdict(list)

    async def resume(self, behind: Behind) -> Slice | None:
        self.asked.append(behind)
        if not behind.failures:
            return None
        mine = [i for i in self.known[behind.key] if behind.after < i.position <= behind.upto]
        return Slice(mine[-1:], behind.upto)


async def test_who_goes_on_failing_is_kept_nothing_for_and_gets_what_resuming_finds(database: str) -> None:
    side = Resuming()
    side.other.refuses.add("away")
    reader = note_reader(side.other, resume=side.resume, interest=by_addressees, batch=10)
    async with note_process(database, reader) as process:
        await until(lambda: process.readers.runs("notes"))
        for number in range(30):
            await process.write(Note("away here", number))
            side.known["away"].append(Item(process.tail.position, Note("away", number)))
            if number == 2:
                await until(
                    lambda: (
                        sum(key == "away" for key, _ in side.other.calls) > LET_GO_AFTER
                        and "away" in runner_of(process)._behind
                    )
                )
        await until(lambda: len(side.other.got["here"]) == 30)
        cursor = runner_of(process).cursors["away"]
        assert len(cursor.items) <= 1, "nothing of what comes is kept for it"

        async def holds_back_nothing() -> bool:
            async with process.db.read() as tx:
                return await store.find_floor(tx) == process.tail.position

        await holds(holds_back_nothing)
        assert process.tail.position > cursor.acked, "and it holds back no purge"
        side.other.refuses.clear()
        await until(lambda: 29 in side.other.got["away"])
        assert side.other.got["away"] == [29], "the last one, not thirty old ones"
        await process.write(Note("away here", 30))
        await until(lambda: side.other.got["away"] == [29, 30])
        await until(lambda: "away" not in runner_of(process)._behind)


async def test_who_does_not_fail_gets_everything_also_beyond_what_memory_keeps(database: str) -> None:
    side = Resuming()
    reader = note_reader(side.other, resume=side.resume, interest=by_addressees)
    async with note_process(database, reader) as process:
        for start in range(0, 2_400, 400):
            await process.write(*(Note("a b", start + n) for n in range(400)))
        await until(lambda: len(side.other.got["a"]) == len(side.other.got["b"]) == 2_400)
        assert side.other.got["a"] == list(range(2_400))


async def test_who_turns_out_to_be_quick_has_the_places_of_the_quick_ones(database: str) -> None:
    """Also those that wait already; of a group that may be slow one is asked at a time, here."""
    slow, started = True, dict[str, asyncio.Event]()

    async def deliver(key: str, _: Sequence[Item[Note]]) -> None:
        started[key] = asyncio.Event()
        await started[key].wait()

    reader = note_reader(
        deliver,
        at_once=4,
        struggling_at_once=4,
        group=lambda _: "one host",
        group_struggling_at_once=1,
        may_be_slow=lambda _: slow,
    )
    async with note_process(database, reader) as process:
        await process.write(*(Note(f"k{number}", 0) for number in range(8)))
        await until(lambda: len(started) == 1, 30)
        (first,) = started.values()
        slow = False
        first.set()
        await until(lambda: len(started) == 5, 30)
        slow = True
        for each in list(started.values()):
            each.set()
        await until(lambda: len(started) == 6, 30)
        slow = False
        for each in list(started.values()):
            each.set()
        await until(lambda: len(started) == 8, 30)
        for each in list(started.values()):
            each.set()
