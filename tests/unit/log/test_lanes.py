"""Whose turn it is among cursors of a reader: places of groups, and what many that come next need found together."""

import asyncio
from collections.abc import Sequence
from typing import Any

from homeserver.log.readers.cursor import Cursor
from homeserver.log.readers.lanes import Lane
from homeserver.log.readers.resuming import MAX_FOUND, MOST, Resuming
from homeserver.log.readers.types import Behind, Item, Reader, Slice


def host(key: str) -> str:
    return key.partition(" ")[2]


def begun(lane: Lane) -> list[str]:
    """Who begins until no place is left."""
    keys = []
    while lane.may_begin:
        keys.append(lane.begin())
    return keys


def test_one_group_is_first_come_first_served() -> None:
    lane = Lane(2)
    for key in "abc":
        lane.add(key)
    assert begun(lane) == ["a", "b"]
    assert lane, "one waits"
    lane.end("b")
    assert begun(lane) == ["c"]
    assert not lane


def test_groups_take_turns_and_none_has_more_than_its_places() -> None:
    lane = Lane(6, 3, host)
    for number in range(1_000):
        lane.add(f"{number} slow")
    assert begun(lane) == ["0 slow", "1 slow", "2 slow"], "three places stay free"
    for key in ("0 quick", "1 quick", "0 third"):
        lane.add(key)
    assert begun(lane) == ["0 quick", "0 third", "1 quick"]
    for number in range(2, 5):
        lane.add(f"{number} quick")
    lane.end("0 slow")
    lane.end("0 third")
    assert begun(lane) == ["2 quick", "3 slow"], "who has waited longer for a turn first"
    lane.end("0 quick")
    lane.end("1 quick")
    assert begun(lane) == ["3 quick", "4 quick"]


def test_all_begin_once_whatever_the_groups() -> None:
    lane = Lane(7, 2, host)
    keys = {f"{number} host{number % (number % 13 + 1)}" for number in range(500)}
    for key in keys:
        lane.add(key)
    seen: list[str] = []
    running: list[str] = []
    while lane or running:
        assert set(lane.waiting()) == keys - set(seen)
        new = begun(lane)
        seen += new
        running += new
        assert len(running) <= 7
        assert max(sum(host(key) == each for key in running) for each in map(host, running)) <= 2
        lane.end(running.pop(0))
    assert len(seen) == len(keys)
    assert set(seen) == keys


def test_those_who_wait_are_told_in_turns() -> None:
    lane = Lane(4, 1, host)
    for key in ("1 a", "2 a", "3 a", "1 b", "2 b", "1 c"):
        lane.add(key)
    assert list(lane.waiting()) == ["1 a", "1 b", "1 c", "2 a", "2 b", "3 a"]
    assert lane.begin() == "1 a"
    assert list(lane.waiting()) == ["1 b", "1 c", "2 b", "2 a", "3 a"], "who cannot begin now last"


class Together:
    """A reader that notes how it was asked."""

    def __init__(self, most: int = MOST) -> None:
        self.calls: list[list[str]] = []
        self.alone: list[str] = []
        self.most = most

    async def deliver(self, _key: str, _items: Sequence[Item[Any]]) -> None:
        raise AssertionError

    async def one(self, behind: Behind) -> Slice | None:
        self.alone.append(behind.key)
        return (await self.many([behind]))[0]

    async def many(self, behinds: Sequence[Behind]) -> Sequence[Slice]:
        if len(behinds) > 1:
            self.calls.append([each.key for each in behinds])
        await asyncio.sleep(0)
        return [Slice([Item(each.after + 1, each.key)], each.upto) for each in behinds[: self.most]]

    def reader(self) -> Reader:
        return Reader(name="x", sources=(), deliver=self.deliver, resume=self.one, resume_together=self.many)


def cursors_of(count: int) -> dict[str, Cursor]:
    return {f"k{number}": Cursor(f"k{number}", number, whole=False) for number in range(count)}


async def test_what_many_lack_is_asked_for_together() -> None:
    side, cursors, lane = Together(), cursors_of(1_000), Lane(48)
    for key in cursors:
        lane.add(key)
    resuming = Resuming(side.reader(), cursors, lane)

    async def step(key: str) -> None:
        found = await resuming.of(cursors[key], 5_000)
        assert found is not None
        assert found.items[0] == Item(cursors[key].acked + 1, key), "its own"
        cursors[key].catch_up(found.items, found.upto, 5_000)
        lane.end(key)

    while lane:
        await asyncio.gather(*(step(key) for key in begun(lane)))
    assert len(side.calls) + len(side.alone) <= 1.5 * 1_000 / MOST
    assert sum(map(len, side.calls)) + len(side.alone) == 1_000, "nobody twice"


async def test_who_is_alone_is_asked_for_alone() -> None:
    side, cursors = Together(), cursors_of(1)
    await Resuming(side.reader(), cursors, Lane(1)).of(cursors["k0"], 10)
    assert (side.alone, side.calls) == (["k0"], [])


async def test_an_answer_for_some_and_one_that_is_out_of_date() -> None:
    """The reader may find less together than it was asked for; what has moved on since is asked for again."""
    side, cursors, lane = Together(most=2), cursors_of(3), Lane(48)
    for key in cursors:
        lane.add(key)
    resuming = Resuming(side.reader(), cursors, lane)
    for key in cursors:
        await resuming.of(cursors[key], 10)
        cursors[key].whole = True
    assert side.calls == [["k0", "k1", "k2"]]
    assert side.alone == ["k2"]
    for key in cursors:
        cursors[key].whole = False
    await resuming.of(cursors["k0"], 10)
    cursors["k1"].covered += 1
    cursors["k0"].whole = cursors["k2"].whole = True
    await resuming.of(cursors["k1"], 10)
    assert side.alone == ["k2", "k1"]


async def test_answers_that_nobody_fetches_are_bounded() -> None:
    side, cursors, lane = Together(), cursors_of(3_000), Lane(1)
    for key in cursors:
        lane.add(key)
    resuming = Resuming(side.reader(), cursors, lane)
    for number in reversed(range(2_000, 3_000)):
        await resuming.of(cursors[f"k{number}"], 5_000)
        cursors[f"k{number}"].whole = True
        assert len(resuming._found) <= MAX_FOUND + MOST
