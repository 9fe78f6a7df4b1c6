"""What a request costs the server is bounded, whatever is in it: a search for the dearest, and those it has found before.

The watchdog over the event loop (tests/support/watchdog.py) measures each turn. What is dear is so each time: a request whose
turn took more than the limit is made twice more, with what is before it in its play, and fails the test if it takes more than the
limit each time. A machine that others use lends a moment of theirs once.

The people of a search keep what its earlier plays have given them (rooms above all), so the failure tells these, too. Each search
begins with people of its own: what it finds does not depend on other tests. A search prints what came nearest to the limit; put a
recipe that is worse than those of its play into the corpus.
"""

import asyncio
import time
from collections.abc import Sequence
from itertools import count, pairwise
from random import Random

import pytest

from tests.fuzz import work
from tests.fuzz.conftest import Casting
from tests.fuzz.harness import Book, throw
from tests.fuzz.work import PLAYS, Play, Recipe
from tests.support.server import Server
from tests.support.watchdog import Watchdog

FEW, MANY, LONGEST = 6, 60, 75.0
"""Tries of a search: at least, at most; and seconds after which no other begins (judging the answers takes most of them)."""
AGAIN = 2
"""How often a play is repeated in which a turn took too long."""
_numbers = count(1)


class Stage:
    """Where plays are played, and what each of their requests costs."""

    def __init__(self, server: Server, casting: Casting, watchdog: Watchdog) -> None:
        self._server = server
        self._casting = casting
        self._watchdog = watchdog
        self._played: list[Recipe] = []

    async def judge(self, recipe: Recipe) -> float:
        """CPU seconds of the longest turn of a play; fails the test if it is too long each time, or an answer is wrong."""
        names, turns = await self._play(recipe)
        limit = self._watchdog.limit
        if max(turns) > limit:
            print(f"{max(turns) * 1000:.0f} ms once: {work.written([recipe])}")
            seen = self._watchdog.take()
            turns = least([turns, *[(await self._play(recipe))[1] for _ in range(AGAIN)]])
            seen += self._watchdog.take()
            dear = [
                f"{each * 1000:.0f} ms: {name}"
                for name, each in zip(names, turns, strict=True)
                if each > limit
            ]
            if dear:
                before = f"after, by the same people:\n{work.written(self._played)}" if self._played else ""
                told = "\n".join(map(str, seen))
                pytest.fail(
                    f"too dear each time:\n{work.written([recipe])}{chr(10).join(dear)}\n{before}{told}",
                    pytrace=False,
                )
        self._played.append(recipe)
        return max(turns)

    async def _play(self, recipe: Recipe) -> tuple[list[str], list[float]]:
        """What was done, and the seconds of the longest turn meanwhile."""
        book, names, turns = Book(), ["what was before"], []
        self._watchdog.longest = 0.0
        play = Play(await self._casting.cast(), recipe, next(_numbers))
        for attack in play.requests():
            turns.append(self._watchdog.longest)
            self._watchdog.longest = 0.0
            names.append(f"{attack.method} {attack.target[:200]}")
            await throw(self._server.url, [attack], book)
        await asyncio.sleep(0)
        assert not book.wrong, f"{recipe}\n{book.report()}"
        return names, [*turns, self._watchdog.longest]


def least(plays: Sequence[Sequence[float]]) -> list[float]:
    """For each request what it took in the cheapest of the plays; what it has begun may go on during the next one."""
    either = [[*map(max, pairwise(turns)), turns[-1]] for turns in plays]
    return [min(each) for each in zip(*either, strict=True)]


@pytest.fixture
def stage(abused_server: Server, casting: Casting, watchdog: Watchdog) -> Stage:
    return Stage(abused_server, casting, watchdog)


@pytest.mark.parametrize("recipe", work.read_corpus(), ids=str)
async def test_what_was_dear_once_is_cheap(recipe: Recipe, stage: Stage) -> None:
    await stage.judge(recipe)


@pytest.mark.parametrize("play", PLAYS)
async def test_a_search_finds_nothing_dear(
    play: str, stage: Stage, casting: Casting, pytestconfig: pytest.Config
) -> None:
    casting.dismiss()
    slow = bool(pytestconfig.getoption("--slow"))
    chance = Random() if pytestconfig.getoption("--explore") else Random(play)
    best, most = Recipe(play), 0.0
    until = time.monotonic() + LONGEST
    for number in range(MANY if slow else FEW):
        if number >= FEW and time.monotonic() > until:
            break
        tried = work.changed(work.changed(best, chance), chance)
        took = await stage.judge(tried)
        if took >= most:
            best, most = tried, took
    print(f"{most * 1000:.0f} ms: {work.written([best])}")


def test_only_what_takes_long_each_time_is_dear() -> None:
    assert least([[0, 5, 1], [0, 1, 5], [5, 5, 0]]) == [1, 5, 0]
    assert least([[0, 9, 1, 1], [0, 1, 1, 9]]) == [1, 1, 1, 1]
