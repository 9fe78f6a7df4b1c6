"""How many requests go to one destination at a time: a slow one must not take everybody's connections.

Owns the count per destination; what waits is bounded too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from federation.ports import Unreachable
from homeserver.matrix.ids import ServerName

AT_ONCE: Final = 16
"""Requests under way to one destination."""
MAX_WAITING: Final = 256
"""Requests that wait for their turn, per destination; more are turned away."""


@dataclass(slots=True)
class _Queue:
    active: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Slots:
    """Turns of one process. What is idle is forgotten, so it holds as many destinations as are asked at the moment."""

    def __init__(self, at_once: int = AT_ONCE, max_waiting: int = MAX_WAITING) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._queues: dict[ServerName, _Queue] = {}

    @property
    def active(self) -> int:
        """Requests under way."""
        return sum(queue.active for queue in self._queues.values())

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @contextlib.asynccontextmanager
    async def turn(self, destination: ServerName) -> AsyncIterator[None]:
        """Wait for a turn, first come, first served, and hold it during the block. Raises `Unreachable` if too many wait."""
        queue = self._queues.setdefault(destination, _Queue())
        if queue.active >= self._at_once:
            await self._wait(destination, queue)
        else:
            queue.active += 1
        try:
            yield
        finally:
            self._pass_on(destination, queue)

    async def _wait(self, destination: ServerName, queue: _Queue) -> None:
        if len(queue.waiting) >= self._max_waiting:
            raise Unreachable(destination, "too many requests to it are waiting")
        turn = asyncio.get_running_loop().create_future()
        queue.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(destination, queue)
            else:
                queue.waiting.remove(turn)
            raise

    def _pass_on(self, destination: ServerName, queue: _Queue) -> None:
        while queue.waiting:
            turn = queue.waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the place stays taken
                return
        queue.active -= 1
        if not queue.active:
            self._queues.pop(destination, None)
