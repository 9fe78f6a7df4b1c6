"""A page of a room is the same from memory as from the database, whatever was read and written before (ROOM-22)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from homeserver.graph.entry import EventEntry
from homeserver.graph.read.pages import NEWEST, OLDEST, Pages, Wanted
from homeserver.runtime.cache import MemoryBudget

ROOM = 1
KINDS = ("event", "event", "event", "hidden", "elsewhere", "waiting", "awaited")
"""A redaction that waits for its target is shown when that comes."""
LARGEST = Wanted(NEWEST, OLDEST, True, 6)


class World:
    """A room's events as the database has them, a tail that has seen some of them, and those who read pages of it."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        """What is committed at each position."""
        self.backfilled: list[int] = []
        self.position = 0
        self.pages = Pages(self, self, MemoryBudget(1 << 20))  # type: ignore[arg-type]  # both stand-ins
        self.remembered = 0
        self._gates: list[asyncio.Future[None]] = []
        self._reading: set[asyncio.Task[list[int]]] = set()

    def visible(self, upto: int) -> set[int]:
        """When the log ends there."""
        shown: set[int] = set()
        waiting: set[int] = set()
        for number, kind in enumerate(self.kinds[:upto], 1):
            if kind == "waiting":
                waiting.add(number)
            elif kind in ("event", "awaited"):
                shown.add(number)
            if kind == "awaited":
                shown |= waiting
        return shown

    def numbers(self, wanted: Wanted, visible: set[int]) -> list[int]:
        """A page of what is visible."""
        numbers = sorted(visible.union(self.backfilled))
        if wanted.backwards:
            return [n for n in numbers[::-1] if wanted.stop < n <= wanted.position][: wanted.limit]
        return [n for n in numbers if wanted.position < n <= wanted.stop][: wanted.limit]

    @asynccontextmanager
    async def read(self) -> AsyncIterator[World]:
        yield self

    async def all(self, sql: str, **given: Any) -> list[Any]:
        """The room has no gaps."""
        return []

    async def column(self, sql: str, **given: Any) -> list[int]:
        """The statement is under way; it is run; its answer is under way."""
        await self._gate()
        wanted = Wanted(given["position"], given["stop"], "DESC" in sql, given["limit"])
        found = self.numbers(wanted, self.visible(len(self.kinds)))
        await self._gate()
        return found

    async def _gate(self) -> None:
        self._gates.append(asyncio.get_running_loop().create_future())
        await self._gates[-1]

    def see(self, number: int) -> None:
        """The tail applies so many entries."""
        for kind in self.kinds[self.position : self.position + number]:
            self.position += 1
            if kind != "elsewhere":
                redaction = True if kind == "awaited" else None
                persisted = SimpleNamespace(
                    room_nid=ROOM, redaction=redaction, hidden=kind in ("hidden", "waiting")
                )
                self.pages.handlers()[EventEntry](
                    self.position, SimpleNamespace(persisted=persisted, opens_gap=False)
                )

    async def ask(self, wanted: Wanted) -> None:
        """Somebody reads a page."""
        read = asyncio.create_task(self.pages.page(ROOM, wanted))
        await asyncio.sleep(0)
        if read.done():
            self.remembered += 1
            # What waited may be seen before the log says that it is shown.
            early = {
                n for n in self.visible(len(self.kinds)).intersection(read.result()) if n <= self.position
            }
            assert read.result() == self.numbers(wanted, self.visible(self.position) | early), wanted
            return
        self._reading.add(read)
        read.add_done_callback(self._reading.discard)

    async def go_on(self, which: int) -> None:
        """One who reads comes one step further."""
        if self._gates:
            self._gates.pop(which % len(self._gates)).set_result(None)
            for _ in range(3):
                await asyncio.sleep(0)

    async def finish(self) -> None:
        """All who read have their answers."""
        while self._gates:
            await self.go_on(0)


async def live(chance: random.Random) -> None:
    world = World()
    world.kinds = chance.choices(KINDS, k=12)
    world.see(12)
    for _ in range(60):
        match chance.randrange(8):
            case 0:
                world.kinds.append(chance.choice(KINDS))
            case 1 if chance.random() < 0.1:
                world.backfilled.append(-1 - len(world.backfilled))
            case 1 | 2:
                world.see(chance.randrange(3))
            case 3:
                await world.finish()
            case 4 | 5:
                await world.go_on(chance.randrange(6))
            case _:
                position, stop = (chance.choice((OLDEST, NEWEST, chance.randrange(-2, 25))) for _ in "ab")
                await world.ask(Wanted(position, stop, chance.random() < 0.6, chance.randint(1, 4)))
    await world.finish()


@pytest.mark.parametrize("seed", range(6))
async def test_pages_from_memory_are_those_of_the_database(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(500):
        await live(chance)


async def test_what_was_read_once_is_not_asked_for_again() -> None:
    world = World()
    world.kinds = ["event"] * 9
    world.see(9)
    await world.ask(LARGEST._replace(limit=3))
    await world.finish()
    await world.ask(LARGEST._replace(limit=3))
    assert world.remembered == 1
    world.kinds.append("event")
    world.see(1)
    await world.ask(LARGEST._replace(limit=4))
    assert world.remembered == 2
    await world.ask(Wanted(6, OLDEST, True, 3))
    await world.finish()
    await world.ask(LARGEST)
    assert world.remembered == 3
