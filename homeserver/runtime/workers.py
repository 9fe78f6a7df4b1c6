"""Several serving processes, kept running by one that serves nothing itself.

They share the ports (SO_REUSEPORT). One that ends is started again; one that hangs is ended first: the kernel goes on giving
it its share of new connections. So each is asked every second, and has to answer (`liveness.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from homeserver.config import ConfigError, load
from homeserver.runtime.clock import Clock, SystemClock
from homeserver.runtime.liveness import ProcessSample, UnansweredTime
from homeserver.runtime.worker import ALIVE, DUMP_TRACEBACK, READY, Order, Question

_ASK_EVERY = 1.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0
_LONG_ENOUGH = 60.0  # a worker that ran so long is started again without a pause
_DUMP_SECONDS = 0.5  # seconds in which one that hangs may write where

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    """A worker process."""

    process: asyncio.subprocess.Process
    unanswered: UnansweredTime
    ready: bool = False
    asked: bool = False
    """A question is on its way, or lies there unanswered."""
    reload: bool = False
    """What may change while it serves has changed while it started: it is told so once it is ready."""

    def tell(self, question: Question) -> None:
        """Ask, unless the last answer has not come yet."""
        if self.process.stdin is not None and not self.asked:
            self.asked = True
            with contextlib.suppress(OSError, RuntimeError):  # it has just ended
                self.process.stdin.write(question.to_line())

    def says(self, line: bytes) -> None:
        """A line of its standard output."""
        if line == READY:
            self.ready = True
        elif line == ALIVE:
            self.asked = False
            self.unanswered.answered()
        else:
            sys.stdout.buffer.write(line)


@dataclass(frozen=True, slots=True)
class Starting:
    """How workers are started: what each is told (but for its number), the command, and how long one may be silent."""

    order: Order
    command: Sequence[str]
    unanswered: Callable[[], UnansweredTime] = field(default=UnansweredTime)


class Workers:
    """The processes. `ready` is called once, when all of them serve for the first time."""

    def __init__(self, starting: Starting, ready: Callable[[], None], clock: Clock | None = None) -> None:
        self._starting = starting
        self._config = starting.order.config
        self._announce = ready
        self._clock = clock or SystemClock()
        self._not_ready = set(range(self._config.server.processes))
        self._running: dict[int, _Running] = {}
        self._stopping = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Until told to stop, or a worker cannot even start; the exit status."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(self._ask())
            kept = [group.create_task(self._keep(number)) for number in range(self._config.server.processes)]
            await self._stopping.wait()
            asking.cancel()
            await self._end(kept)
        return self._status

    # ------------------------------------------------------------------------------------------------ asking them

    async def _ask(self) -> None:
        while True:
            await self._clock.sleep(_ASK_EVERY)
            for number, worker in list(self._running.items()):
                if worker.asked and worker.unanswered.sample(
                    ProcessSample.of_process(worker.process.pid, self._clock.monotonic())
                ):
                    await self._replace(number, worker)
            processes = self._config.server.processes
            answering = sum(w.ready and not w.unanswered.noticeable for w in self._running.values())
            question = Question(processes, 0 if self._not_ready else processes - answering)
            for worker in self._running.values():
                worker.tell(question)

    async def _replace(self, number: int, worker: _Running) -> None:
        """End one that hangs; it is started again like any that ended."""
        _log.error("worker_hangs", worker=number, pid=worker.process.pid)
        with contextlib.suppress(ProcessLookupError):
            if worker.ready:  # before that the signal would only end it
                worker.process.send_signal(DUMP_TRACEBACK)
                await self._clock.sleep(_DUMP_SECONDS)
            worker.process.kill()

    # ------------------------------------------------------------------------------------------ keeping them there

    async def _keep(self, number: int) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            since = self._clock.monotonic()
            try:
                status = await self._one(number)
            except OSError as error:  # no memory, no process number: others may free some
                _log.error("worker_not_started", worker=number, error=str(error))  # the sentence says it all
            else:
                if self._stopping.is_set():
                    return
                _log.error("worker_ended", worker=number, status=status)
                if number in self._not_ready and status >= 0:
                    # It ended by itself before it served: it would again. (One that was killed gets another chance.)
                    self._status = status or 1
                    self._stopping.set()
                    return
            pause = (
                _FIRST_PAUSE
                if self._clock.monotonic() - since > _LONG_ENOUGH
                else min(2 * pause, _LONGEST_PAUSE)
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _one(self, number: int) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._starting.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=False,
        )
        worker = self._running[number] = _Running(process, self._starting.unanswered())
        assert process.stdin is not None
        try:
            with contextlib.suppress(OSError, RuntimeError):  # it has just ended
                process.stdin.write(replace(self._starting.order, worker=number).to_bytes())
            await self._listen(number, worker)
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            del self._running[number]

    async def _listen(self, number: int, worker: _Running) -> None:
        """To what it says, until it has ended."""
        assert worker.process.stdout is not None
        while True:
            try:
                line = await worker.process.stdout.readline()
            except ValueError:  # longer than any of ours
                continue
            if not line:
                return
            worker.says(line)
            if worker.ready and worker.reload:
                worker.reload = False
                _signal(worker.process, signal.SIGHUP)
            if worker.ready and number in self._not_ready:
                self._not_ready.discard(number)
                if not self._not_ready:
                    self._announce()

    def _reload(self) -> None:
        """Tell the workers to read their certificates anew, and what else may change while they serve. Who is started later is told
        the same; where the file is broken, what held before: the workers say what is wrong with it.
        """
        config = self._starting.order.config
        if config.source is not None:
            with contextlib.suppress(ConfigError):
                order = replace(self._starting.order, config=config.with_partners_of(load(config.source)))
                self._starting = replace(self._starting, order=order)
        for worker in self._running.values():
            if worker.ready:
                _signal(worker.process, signal.SIGHUP)
            else:  # until it serves the signal would end it
                worker.reload = True

    @property
    def _patience(self) -> float:
        """Seconds until all should have ended that were told to."""
        return self._config.limits.drain + self._config.limits.shutdown + 1.0

    async def _end(self, kept: Sequence[asyncio.Task[None]]) -> None:
        for worker in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.terminate()
        _, slow = await asyncio.wait(kept, timeout=self._patience)
        if slow:
            _log.warning("workers_too_slow", workers=sorted(self._running))
            for worker in list(self._running.values()):
                with contextlib.suppress(ProcessLookupError):
                    worker.process.kill()
            await asyncio.wait(slow)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
