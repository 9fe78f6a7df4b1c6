"""Processes that do something for this one and are kept for a while: started when there is something to do, ended when idle.

What they are asked, and when one has failed, is for the subclasses: `runtime.computing`, `media.sandbox`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.runtime.clock import Clock

IDLE_SECONDS: Final = 30.0
"""After which a process that has nothing to do is ended."""
_KEPT_ENVIRONMENT: Final = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "TMPDIR")
"""The rest holds passwords."""
_LONGEST_LINE: Final = 1 << 16
"""What asyncio takes for one unless told otherwise."""


@dataclass(slots=True, eq=False)
class Child:
    """One process."""

    process: asyncio.subprocess.Process
    done: int = 0
    """What it was asked."""
    idle_since: float = 0.0


class ChildProcesses:
    """Those of one server process that run the same module. How many there are at most is for the subclass."""

    def __init__(
        self, clock: Clock, module: str, arguments: Sequence[str], *, longest_line: int = _LONGEST_LINE
    ) -> None:
        """`python -m module arguments…`. `longest_line`: bytes of its output that are taken for one line."""
        self._clock = clock
        self._command = (sys.executable, "-m", module, *arguments)
        self._longest_line = longest_line
        self._idle: list[Child] = []
        self._all: set[Child] = set()

    async def end_idle(self) -> None:
        """End who has had nothing to do for a while."""
        now = self._clock.monotonic()
        for child in [each for each in self._idle if now - each.idle_since >= IDLE_SECONDS]:
            self._idle.remove(child)
            await self._end(child)

    async def close(self) -> None:
        """End them all."""
        self._idle.clear()
        for child in list(self._all):
            await self._end(child)

    async def _child(self) -> Child:
        """One that has nothing to do. Raises `OSError`: none can be started."""
        while self._idle:
            child = self._idle.pop()
            if child.process.returncode is None:
                return child
            await self._end(child)
        return await self._start()

    def _put_back(self, child: Child) -> None:
        child.idle_since = self._clock.monotonic()
        self._idle.append(child)

    async def _start(self) -> Child:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=self._longest_line,
            env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
        )
        child = Child(process)
        self._all.add(child)
        return child

    async def _end(self, child: Child) -> None:
        self._all.discard(child)
        with contextlib.suppress(ProcessLookupError):
            child.process.kill()
        if child.process.stdin is not None:
            child.process.stdin.close()
        await child.process.wait()
