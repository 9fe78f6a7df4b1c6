"""Long computations in processes of their own. All Python of a process takes turns under one lock: what is computed in a thread
holds up the event loop, and of the machine's processors it uses one.

Functions that are computed here are pure, and take and return bytes. Processes are started when something is to be computed, and
ended when there has been nothing for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Final, TypeVar

import structlog
from typing_extensions import override

from homeserver.matrix.errors import Unavailable
from homeserver.runtime.child_processes import Child, ChildProcesses
from homeserver.runtime.clock import Clock
from homeserver.runtime.compute_child import LENGTH

_log = structlog.get_logger("atrium.computing")

T = TypeVar("T")
R = TypeVar("R")

PROCESSES: Final = min(4, os.cpu_count() or 1)
END_EVERY: Final = 10.0
SECONDS: Final = 60.0
BYTES_A_SECOND: Final = 256 << 10
"""For one computation: so many seconds, and one more for so many bytes; then the process is killed. It needs a hundredth of that
on a machine that has nothing else to do.
"""
MAX_ANSWER: Final = 512 << 20
_ATTEMPTS: Final = 2


class ComputationFailed(Unavailable):
    """The process died, or took too long: twice."""


class _Died(Exception):  # never leaves this file
    pass


class ComputeProcesses(ChildProcesses):
    """The computing processes of one server process. Call `close` when done."""

    def __init__(self, clock: Clock, *, modules: Sequence[str], processes: int = PROCESSES) -> None:
        """`modules`: that have the functions to be computed."""
        super().__init__(clock, "homeserver.runtime.compute_child", modules)
        self.processes = processes
        self._slots = asyncio.Semaphore(processes)
        self._warming: set[asyncio.Task[None]] = set()
        self._closed = False

    def warm(self) -> None:
        """Much will be computed soon: start the processes now."""
        for _ in range(self.processes - len(self._all) - len(self._warming)):
            task = asyncio.create_task(self._warm(), name="computing.start")
            self._warming.add(task)
            task.add_done_callback(self._warming.discard)

    async def run(self, function: str, frames: Sequence[bytes]) -> bytes:
        """What `module:function` returns for the frames. Waits for a process; whoever asks bounds how many wait.

        Raises `ComputationFailed`.
        """
        async with self._slots:
            for _ in range(_ATTEMPTS):
                try:
                    child = await self._child()
                except OSError as error:  # no more processes, no more memory
                    _log.warning("computing.not_started", cause=type(error).__name__)
                    return await asyncio.to_thread(_here, function, frames)
                with contextlib.suppress(_Died):
                    return await self._with(child, function, frames)
        raise ComputationFailed("This server is too busy, try again")

    async def each(self, work: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
        """What `work` returns for each, in order: some more at once than there are processes, so that these do not wait."""
        found: dict[int, R] = {}
        rest = iter(enumerate(items))

        async def lane() -> None:
            for number, item in rest:
                found[number] = await work(item)

        lanes = [asyncio.create_task(lane()) for _ in range(min(self.processes + 1, len(items)))]
        try:
            await asyncio.gather(*lanes)
        finally:
            for each in lanes:
                each.cancel()
        return [found[number] for number in range(len(items))]

    @override
    async def close(self) -> None:
        """End them all."""
        self._closed = True
        for task in [*self._warming]:
            task.cancel()
        await asyncio.gather(*self._warming, return_exceptions=True)
        await super().close()

    async def _warm(self) -> None:
        with contextlib.suppress(OSError):
            self._put_back(await self._start())

    @override
    async def _child(self) -> Child:
        if not self._idle and self._warming:
            await asyncio.wait([*self._warming])
        return await super()._child()

    async def _with(self, child: Child, function: str, frames: Sequence[bytes]) -> bytes:
        """Raises `_Died`."""
        try:
            async with asyncio.timeout(SECONDS + sum(map(len, frames)) / BYTES_A_SECOND):
                answer = await _ask(child.process, function, frames)
        except (
            TimeoutError,
            OSError,
            EOFError,
            RuntimeError,
        ) as error:  # the last is what uvloop says of a closed pipe
            _log.warning("computing.failed", function=function, cause=type(error).__name__)
            await asyncio.shield(self._end(child))
            raise _Died from None
        except BaseException:  # nobody waits for the answer any more
            await asyncio.shield(self._end(child))
            raise
        if self._closed:
            await self._end(child)
        else:
            self._put_back(child)
        return answer


async def _ask(process: asyncio.subprocess.Process, function: str, frames: Sequence[bytes]) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(LENGTH.pack(1 + len(frames)))
    for frame in (function.encode(), *frames):
        process.stdin.write(LENGTH.pack(len(frame)))
        process.stdin.write(frame)
        await process.stdin.drain()
    (size,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    if size > MAX_ANSWER:
        raise EOFError
    return await process.stdout.readexactly(size)


def _here(function: str, frames: Sequence[bytes]) -> bytes:
    module, name = function.split(":")
    answer: bytes = getattr(import_module(module), name)([*frames])
    return answer
