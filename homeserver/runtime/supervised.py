"""What must run as long as the process does: restarted when it ends, whatever ended it.

An exception in such a loop is a fault to be mended, but it must not end the server for everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.runtime.causes import Causes
from homeserver.runtime.clock import Clock

_log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between an end and the restart: doubled while it ends again and again."""
STEADY = 30.0
"""Seconds after which a loop that was restarted counts as well again."""
UNWELL = 3
"""Ends in a row from which on the process says that it is unwell."""

Work = Callable[[], Coroutine[Any, Any, None]]


class LoopDown(Exception):
    """A loop ends again and again; the message names it."""


class Ended(Exception):
    """A loop returned that should run until it is cancelled."""


@dataclass(slots=True)
class _Loop:
    task: asyncio.Task[None] | None = None
    restarts: int = 0
    failures: int = 0
    began: float = 0.0
    up: bool = False


class SupervisedLoops(Collector):
    """Runs loops from `start` to `stop`; also their metrics."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loops: dict[str, _Loop] = {}
        self._closing = False

    def start(self, name: str, work: Work) -> None:
        """Run `work()` now, and again whenever it ends, until `stop`."""
        loop = self._loops[name] = _Loop()
        loop.task = asyncio.create_task(self._keep(name, loop, work), name=name)

    async def finish(self, name: str, *, within: float) -> None:
        """A loop that was told to end by other means has so many seconds for it; nothing is restarted from now on."""
        self._closing = True
        loop = self._loops.get(name)
        if loop is not None and loop.task is not None:
            await asyncio.wait([loop.task], timeout=within)

    async def stop(self) -> None:
        """Cancel all of them and wait until they have ended. Idempotent."""
        self._closing = True
        tasks = [loop.task for loop in self._loops.values() if loop.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loops.clear()

    async def check(self) -> None:
        """For `/health`. Raises `LoopDown`."""
        now = self._clock.monotonic()
        down = [
            name
            for name, loop in self._loops.items()
            if loop.failures >= UNWELL and not (loop.up and now - loop.began >= STEADY)
        ]
        if down:
            raise LoopDown(", ".join(down))

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        up = GaugeMetricFamily("atrium_loop_up", "Whether a permanent loop runs", labels=("name",))
        restarts = CounterMetricFamily(
            "atrium_loop_restarts", "How often a permanent loop was restarted", labels=("name",)
        )
        for name, loop in self._loops.items():
            up.add_metric((name,), float(loop.up))
            restarts.add_metric((name,), loop.restarts)
        yield from (up, restarts)

    async def _keep(self, name: str, loop: _Loop, work: Work) -> None:
        causes = Causes(_log, "loop_ended", name=name)
        while True:
            loop.began, loop.up = self._clock.monotonic(), True
            error: BaseException
            try:
                # In a task of its own: then it is resumed without passing through here.
                await asyncio.create_task(work(), name=name)
                error = Ended(name)
            except asyncio.CancelledError as cancelled:
                if asked_to_end():
                    raise
                error = cancelled  # something it awaited was cancelled, not itself
            except Exception as raised:  # noqa: BLE001  # whatever it was, the loop goes on
                error = raised
            loop.up = False
            if self._closing:
                return
            if self._clock.monotonic() - loop.began >= STEADY:
                causes.over()
                loop.failures = 0
            pause = min(FIRST_PAUSE * 2.0 ** min(loop.failures, 16), LONGEST_PAUSE)
            loop.failures += 1
            loop.restarts += 1
            causes.tell(error, again_in=round(pause, 1))
            await self._clock.sleep(pause)


def asked_to_end() -> bool:
    """In a handler of `CancelledError`: whether this task is being cancelled, rather than something that it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
