"""Periodic work and permanent loops: what fails in them, and what does not."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from homeserver.runtime.clock import Entropy, FakeClock, FakeEntropy
from homeserver.runtime.periodic import LONGEST_RETRY, Periodic, PeriodicRunner, every, retry_pause
from homeserver.runtime.supervised import UNWELL, LoopDown, SupervisedLoops
from tests.support.outbound import until


@asynccontextmanager
async def running(
    clock: FakeClock, *items: Periodic, entropy: Entropy | None = None
) -> AsyncIterator[PeriodicRunner]:
    runner = PeriodicRunner(items, None, clock, entropy or FakeEntropy())
    runner.start()
    await asyncio.sleep(0)
    try:
        yield runner
    finally:
        await runner.stop()


def counting(times: list[float], clock: FakeClock) -> Callable[[], Any]:
    async def call() -> None:
        times.append(clock.monotonic())

    return call


async def test_work_runs_at_its_interval_and_not_in_step_with_others() -> None:
    clock, times = FakeClock(), [1_000.0]
    async with running(clock, every(10.0, counting(times, clock), name="a", jitter=0.2)) as runner:
        await clock.advance(200)
        figures = runner.figures("a")
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert len(pauses) >= 16
    assert all(10.0 <= pause <= 12.0 for pause in pauses)
    assert len(set(pauses)) > 1
    assert (figures.succeeded, figures.failed) == (len(pauses), 0)
    assert figures.last_success_ms > 0


@pytest.mark.parametrize("error", [ValueError("a"), asyncio.CancelledError(), TimeoutError()], ids=repr)
async def test_work_that_fails_each_time_is_tried_with_growing_pauses_and_told_once(
    error: BaseException,
) -> None:
    clock, times = FakeClock(), [1_000.0]

    async def fail() -> None:
        times.append(clock.monotonic())
        raise error

    other: list[float] = []
    items = every(1.0, fail, name="bad", jitter=0), every(1.0, counting(other, clock), name="good", jitter=0)
    with structlog.testing.capture_logs() as lines:
        async with running(clock, *items) as runner:
            await clock.advance(100)
            failing = runner.figures("bad").failing
    pauses = [round(b - a, 3) for a, b in itertools.pairwise(times)]
    assert pauses[:6] == [1.0, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert failing == len(pauses)
    assert len(other) == 100
    assert [line["event"] for line in lines if line.get("name") == "bad"] == ["periodic_failed"]


async def test_the_end_of_a_failure_is_told_and_another_cause_is_told() -> None:
    clock, errors = FakeClock(), [ValueError("1"), ValueError("2"), KeyError("x")]

    async def fail() -> None:
        if errors:
            raise errors.pop(0)

    with structlog.testing.capture_logs() as lines:
        async with running(clock, every(1.0, fail, name="a")):
            await clock.advance(60)
    own = [line for line in lines if line.get("name") == "a"]  # servers of other tests run on
    assert [(line["event"], line.get("cause")) for line in own] == [
        ("periodic_failed", "ValueError"),
        ("periodic_failed", "KeyError"),
        ("periodic_failed_no_more", None),
    ]


def test_pauses_are_bounded() -> None:
    assert retry_pause(1.0, 10_000) == LONGEST_RETRY
    assert retry_pause(3600.0, 1) == 1.0
    assert retry_pause(3600.0, 10_000) == 3600.0
    assert retry_pause(0.1, 2) == 0.2


async def test_runs_do_not_pile_up_and_are_bounded_in_time() -> None:
    clock, begun, at_once = FakeClock(), [0], [0]

    async def hang() -> None:
        begun[0] += 1
        at_once[0] += 1
        try:
            await asyncio.Event().wait()
        finally:
            at_once[0] -= 1

    async with running(clock, every(1.0, hang, name="a", timeout=1.5)) as runner:
        await clock.advance(30)
        assert (begun, at_once) == ([1], [1])
        await until(lambda: (at_once, runner.figures("a").failed) == ([0], 1))
        await clock.advance(3)
        assert begun == [2]


async def test_work_can_be_woken() -> None:
    clock, times, wake = FakeClock(), [], asyncio.Event()
    async with running(clock, every(60.0, counting(times, clock), name="a", wake=wake)):
        for _ in range(3):
            wake.set()
            wake.set()
            await clock.advance(0.01)
        assert len(times) == 3
        await clock.advance(70)
        assert len(times) == 4


async def test_at_the_end_a_run_may_finish_but_not_for_ever() -> None:
    clock, finished = FakeClock(), []

    async def slow() -> None:
        await asyncio.sleep(0.05)
        finished.append("slow")

    async def endless() -> None:
        await asyncio.Event().wait()

    runner = PeriodicRunner(
        [every(1.0, slow, name="slow"), every(1.0, endless, name="endless"), every(9.0, slow, name="asleep")],
        None,
        clock,
        FakeEntropy(),
    )
    runner.start()
    await asyncio.sleep(0)
    await clock.advance(2)
    async with asyncio.timeout(60):
        await runner.stop(within=1.5)
    assert finished == ["slow"]


def test_a_name_is_given_once() -> None:
    async def nothing() -> None: ...

    twice = [every(1.0, nothing, name="a"), every(2.0, nothing, name="a")]
    with pytest.raises(AssertionError):
        PeriodicRunner(twice, None, FakeClock(), FakeEntropy())


# ------------------------------------------------------------------------------------------------- permanent loops


async def test_a_loop_that_ends_is_restarted_whatever_ended_it() -> None:
    clock, begun = FakeClock(), []
    ends: list[BaseException | None] = [ValueError("a"), None, asyncio.CancelledError()]

    async def work() -> None:
        begun.append(clock.monotonic())
        if ends:
            error = ends.pop(0)
            if error is not None:
                raise error
            return
        await asyncio.Event().wait()

    loops = SupervisedLoops(clock)
    loops.start("a", work)
    await clock.advance(0)
    await clock.advance(10)
    assert [round(at - 1_000, 1) for at in begun] == [0.0, 0.1, 0.3, 0.7]
    with pytest.raises(LoopDown):
        await loops.check()
    await clock.advance(30)
    await loops.check()
    await loops.stop()


async def test_a_loop_that_raises_each_time_makes_the_process_unwell_and_does_not_spin() -> None:
    clock, begun = FakeClock(), [0]

    async def work() -> None:
        begun[0] += 1
        raise KeyError("x")

    loops = SupervisedLoops(clock)
    with structlog.testing.capture_logs() as lines:
        loops.start("a", work)
        await clock.advance(0)
        await loops.check()
        await clock.advance(60)
    assert UNWELL < begun[0] < 25
    assert sum("KeyError" in str(line) for line in lines) == 1
    with pytest.raises(LoopDown, match="a"):
        await loops.check()
    await loops.stop()


async def test_a_loop_that_was_told_to_end_is_not_restarted() -> None:
    clock, begun, told = FakeClock(), [0], asyncio.Event()

    async def work() -> None:
        begun[0] += 1
        await told.wait()

    loops = SupervisedLoops(clock)
    loops.start("writer", work)
    await asyncio.sleep(0)
    told.set()
    await loops.finish("writer", within=1)
    await clock.advance(10)
    assert begun == [1]
    await loops.stop()
