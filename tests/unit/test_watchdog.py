"""The watchdog over event loops: it sees what the server holds up, and only that."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import watchdog as support_watchdog
from tests.support.watchdog import Watchdog

LIMIT = 0.05


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    """One in which this file counts as the server's."""
    monkeypatch.setattr(support_watchdog, "_OURS", __file__)
    found = Watchdog(LIMIT)
    with found.watching():
        yield found


async def in_a_turn_of_its_own(act: object, *args: object) -> None:
    asyncio.get_running_loop().call_soon(act, *args)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.holds_loop
async def test_a_callback_that_holds_the_loop_is_seen_with_its_stack(watchdog: Watchdog) -> None:
    await in_a_turn_of_its_own(burn, 3 * LIMIT)
    [seen] = watchdog.take()
    assert seen.seconds >= 3 * LIMIT
    assert "in burn" in str(seen)


@pytest.mark.holds_loop
async def test_a_step_of_a_task_is_seen_even_if_nobody_could_look(watchdog: Watchdog) -> None:
    async def work() -> None:
        sum(range(20_000_000))  # in C: nobody else has a turn

    await asyncio.create_task(work())
    [seen] = watchdog.take()
    assert "work" in str(seen)


async def test_waiting_and_short_turns_are_fine(watchdog: Watchdog) -> None:
    await in_a_turn_of_its_own(time.sleep, 2 * LIMIT)
    for _ in range(10):
        await in_a_turn_of_its_own(burn, LIMIT / 5)
    assert watchdog.take() == []


async def test_what_tests_do_themselves_does_not_count() -> None:
    found = Watchdog(LIMIT)
    with found.watching():
        await in_a_turn_of_its_own(burn, 3 * LIMIT)
        assert found.take() == []


def test_frames_are_found_while_threads_are_started() -> None:
    """One that is being started bears the number of the one that starts it."""
    ended = threading.Event()
    seen: list[bool] = []
    starter = threading.get_ident()

    def look() -> None:
        while not ended.is_set():
            frames = support_watchdog._frames_of(starter)
            seen.append(any(frame.filename == __file__ for frame in frames))

    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(2_000):
        thread = threading.Thread(target=len, args=("",))
        thread.start()
        thread.join()
    ended.set()
    looking.join()
    assert seen
    assert all(seen)
