"""Computing processes: they answer in order, are replaced when they die, end when there is nothing to do."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import cast

import pytest

from homeserver.runtime import child_processes, computing
from homeserver.runtime.clock import FakeClock
from homeserver.runtime.computing import ComputationFailed, ComputeProcesses

ECHO = "tests.integration.runtime.test_computing:echo"
HANG = "tests.integration.runtime.test_computing:hang"
DIE = "tests.integration.runtime.test_computing:die"


def echo(frames: list[bytes]) -> bytes:
    return b"|".join([str(os.getpid()).encode(), *frames])


def die(_: list[bytes]) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return b""


def hang(_: list[bytes]) -> bytes:
    time.sleep(60)
    return b""


@pytest.fixture
async def processes() -> AsyncIterator[ComputeProcesses]:
    made = ComputeProcesses(FakeClock(), modules=[], processes=2)
    yield made
    await made.close()
    assert not made._all


async def test_many_are_computed_in_order_and_elsewhere(processes: ComputeProcesses) -> None:
    async def work(number: int) -> bytes:
        return await processes.run(ECHO, [b"%d" % number, b"x" * 300_000])

    answers = [answer.split(b"|") for answer in await processes.each(work, range(40))]
    assert [int(number) for _, number, _ in answers] == [*range(40)]
    assert all(len(text) == 300_000 for _, _, text in answers)
    pids = {int(pid) for pid, _, _ in answers}
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


async def test_a_process_that_dies_is_replaced_and_what_kills_it_is_refused(
    processes: ComputeProcesses,
) -> None:
    with pytest.raises(ComputationFailed):
        await processes.run(DIE, [])
    assert (await processes.run(ECHO, [b"a"])).endswith(b"|a")
    os.kill(int((await processes.run(ECHO, [])).decode()), signal.SIGKILL)
    await asyncio.sleep(0.05)
    assert (await processes.run(ECHO, [b"b"])).endswith(b"|b")


async def test_a_process_that_has_just_died_is_replaced(processes: ComputeProcesses) -> None:
    """Its pipe is closed, and nobody has heard yet that it has ended: uvloop raises RuntimeError."""
    await processes.run(ECHO, [])
    (child,) = processes._all
    real = child.process.stdin
    assert real is not None

    class Closed:
        close = real.close

        def write(self, data: bytes) -> None:
            del data
            raise RuntimeError("unable to perform operation; the handler is closed")

    child.process.stdin = cast("asyncio.StreamWriter", Closed())
    assert (await processes.run(ECHO, [b"a"])).endswith(b"|a")
    assert child not in processes._all


async def test_what_takes_too_long_is_ended(
    processes: ComputeProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    await processes.run(ECHO, [])
    monkeypatch.setattr(computing, "SECONDS", 0.3)
    with pytest.raises(ComputationFailed):
        await processes.run(HANG, [])


async def test_idle_processes_end(processes: ComputeProcesses) -> None:
    clock = processes._clock
    assert isinstance(clock, FakeClock)
    processes.warm()
    await processes.run(ECHO, [])
    await asyncio.gather(*processes._warming)
    assert len(processes._all) == 2
    await processes.end_idle()
    assert len(processes._all) == 2
    await clock.advance(child_processes.IDLE_SECONDS)
    await processes.end_idle()
    assert not processes._all


async def test_a_caller_who_leaves_frees_the_place(processes: ComputeProcesses) -> None:
    for _ in range(4):
        asked = asyncio.create_task(processes.run(ECHO, [b"x" * 5_000_000]))
        await asyncio.sleep(0.02)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    assert (await processes.run(ECHO, [b"a"])).endswith(b"|a")


async def test_where_no_process_can_be_started_it_is_computed_here(
    processes: ComputeProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    assert await processes.run(ECHO, [b"a"]) == b"%d|a" % os.getpid()
