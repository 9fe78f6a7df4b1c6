"""What a request costs the server is bounded, whatever is in it: a search for the dearest, and those it has found before.

The watchdog over the event loop (tests/support/watchdog.py) fails a test in which one turn takes more than its limit. A search
prints what came nearest to it; put a recipe that is worse than those of its play into the corpus.
"""

import asyncio
import time
from itertools import count
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
_numbers = count(1)


async def cost(recipe: Recipe, server: Server, casting: Casting, watchdog: Watchdog) -> tuple[float, Book]:
    """CPU seconds of the longest turn that a play took, and what was wrong with the answers."""
    book, watchdog.longest = Book(), 0.0
    play = Play(await casting.cast(), recipe, next(_numbers))
    for attack in play.requests():
        await throw(server.url, [attack], book)
    await asyncio.sleep(0)
    return watchdog.longest, book


@pytest.mark.parametrize("recipe", work.read_corpus(), ids=str)
async def test_what_was_dear_once_is_cheap(
    recipe: Recipe, abused_server: Server, casting: Casting, watchdog: Watchdog
) -> None:
    _, book = await cost(recipe, abused_server, casting, watchdog)
    assert not book.wrong, book.report()


@pytest.mark.parametrize("play", PLAYS)
async def test_a_search_finds_nothing_dear(
    play: str, abused_server: Server, casting: Casting, watchdog: Watchdog, pytestconfig: pytest.Config
) -> None:
    slow = bool(pytestconfig.getoption("--slow"))
    chance = Random() if pytestconfig.getoption("--explore") else Random(play)
    best, most = Recipe(play), 0.0
    until = time.monotonic() + LONGEST
    for number in range(MANY if slow else FEW):
        if number >= FEW and time.monotonic() > until:
            break
        tried = work.changed(work.changed(best, chance), chance)
        took, book = await cost(tried, abused_server, casting, watchdog)
        if took > watchdog.limit:
            # What is dear is so each time; a machine that others use lends a moment of theirs once.
            print(f"{took * 1000:.0f} ms once: {work.written([tried])}")
            again = [(await cost(tried, abused_server, casting, watchdog))[0] for _ in range(2)]
            if (took := min(again)) <= watchdog.limit:
                watchdog.take()
        assert not book.wrong, f"{tried}\n{book.report()}"
        if took >= most:
            best, most = tried, took
    print(f"{most * 1000:.0f} ms: {work.written([best])}")
