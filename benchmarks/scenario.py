"""What a scenario is, and the two ways in which scenarios keep a server busy."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, TypeVar

from benchmarks.meter import Meter
from benchmarks.stage import Stage
from benchmarks.wire import Response

T = TypeVar("T")


class Scenario(ABC):
    """One line of the report. An instance belongs to one server and is measured once per round."""

    name: ClassVar[str]
    title: ClassVar[str]
    operation: ClassVar[str] = "request"
    by_name_only: ClassVar[bool] = False
    """Left out unless `--only` names it."""
    longest: ClassVar[float] = 120.0
    """Seconds that a round may take, besides 20 for each that is measured."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def prepare(self) -> None:  # noqa: B027  # some have nothing to prepare
        """Set up, unmeasured, once."""

    @abstractmethod
    async def measure(self, meter: Meter) -> None:
        """Measure for about `meter.seconds`; called once more beforehand, to warm up, with a meter nobody reads."""


async def keep_busy(meter: Meter, workers: Iterable[Callable[[], Awaitable[Response]]]) -> None:
    """One window in which every worker repeats its operation, the next when the last is answered."""
    async with meter.window(), asyncio.TaskGroup() as group:
        deadline = time.perf_counter() + meter.seconds

        async def work(operation: Callable[[], Awaitable[Response]]) -> None:
            while time.perf_counter() < deadline:
                meter.record((await operation()).seconds)

        for worker in workers:
            group.create_task(work(worker))


async def work_off(meter: Meter, lanes: Iterable[Iterable[Callable[[], Awaitable[Response]]]]) -> None:
    """One window in which prepared jobs are done: the lanes side by side, the jobs of a lane one after another."""

    async def work(jobs: Iterable[Callable[[], Awaitable[Response]]]) -> None:
        for job in jobs:
            meter.record((await job()).seconds)

    async with meter.window(), asyncio.TaskGroup() as group:
        for lane in lanes:
            group.create_task(work(lane))
