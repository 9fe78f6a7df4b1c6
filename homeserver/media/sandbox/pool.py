"""The processes of the sandbox: started when there is something to do, ended when there is nothing, and killed when they
take too long.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from homeserver.matrix.errors import Unavailable
from homeserver.media.sandbox import tasks
from homeserver.media.sandbox.tasks import Answer, Task
from homeserver.runtime.child_processes import Child, ChildProcesses
from homeserver.runtime.clock import Clock

_log = structlog.get_logger("atrium.media")

TASKS_EACH: Final = 200
"""After which a process is replaced: decoders leak."""
MAX_WAITING: Final = 100
"""Tasks that wait for a process; beyond, they are refused."""
_OVER_CPU: Final = 2.0
"""A process may wait for the disk and for other processes: of the clock on the wall it gets so many times its CPU time."""
_STARTING: Final = 10.0
"""Seconds that a new process gets besides."""


class SandboxFailed(Exception):
    """The process died of the task: it took too much time or memory, and would again."""


class SandboxBusy(Unavailable):
    """Too much waits to be done, or this machine is too busy to do it in time."""


class Sandbox(ChildProcesses):
    """The processes of one server process. Call `close` when done."""

    def __init__(self, clock: Clock, *, processes: int, memory: int) -> None:
        """`processes`: at most; `memory`: bytes of address space of each."""
        super().__init__(clock, "homeserver.media.sandbox.child", [str(memory)], longest_line=tasks.MAX_LINE)
        self._slots = asyncio.Semaphore(processes)
        self._waiting = 0
        self.killed = 0
        """Processes that took too long or died."""

    async def run(self, task: Task) -> Answer:
        """Do it. Raises `SandboxFailed`, `SandboxBusy`."""
        if self._waiting >= MAX_WAITING:
            raise SandboxBusy("Too many pictures are waiting to be looked at")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._with_child(task)
        finally:
            self._slots.release()

    async def _with_child(self, task: Task) -> Answer:
        child = await self._child()
        fine = False
        try:
            answer = await self._ask(child, task)
            fine = True
            return answer
        finally:
            child.done += 1
            if fine and child.done < TASKS_EACH and child in self._all:
                self._put_back(child)
            else:
                self.killed += not fine
                await asyncio.shield(self._end(child))

    async def _ask(self, child: Child, task: Task) -> Answer:
        process = child.process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_OVER_CPU * task.seconds + _STARTING):
                process.stdin.write(tasks.encode(task) + b"\n")
                await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError:
            # The kernel ends who takes too much CPU time; who has not got it has done nothing wrong.
            _log.warning("sandbox_failed", kind=type(task).__name__, cause="not done in time")
            raise SandboxBusy("This server is too busy to look at pictures") from None
        except (
            ConnectionError,
            ValueError,
            RuntimeError,
        ) as error:  # the last is what uvloop says of a closed pipe
            _log.warning("sandbox_failed", kind=type(task).__name__, cause=type(error).__name__)
            raise SandboxFailed from error
        if not line.endswith(b"\n"):
            _log.warning("sandbox_failed", kind=type(task).__name__, cause="died")
            raise SandboxFailed
        answer: Answer = tasks.answer_decoder.decode(line)
        return answer
