"""Large answers take turns: of each server one at a time, and of all of them few.

Whole states are megabytes and thousands of events; a server that asks for many of them waits for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from homeserver.matrix.errors import LimitExceeded
from homeserver.matrix.ids import ServerName

AT_ONCE: Final = 4
"""Large answers that a process makes at the same time."""
WAITING: Final = 10
"""Requests of one server that may wait for their turn."""
RETRY_MS: Final = 5_000


class LargeAnswers:
    """Who makes a large answer, and who waits to. Of this process."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(AT_ONCE)
        """Held while something large is computed; not while it is sent."""
        self._locks: dict[ServerName, asyncio.Lock] = {}
        self._waiting: dict[ServerName, int] = {}

    @contextlib.asynccontextmanager
    async def turn(self, server_name: ServerName) -> AsyncIterator[None]:
        """As long as the block lasts, nothing else large is made for this server. Raises `LimitExceeded`."""
        count = self._waiting.get(server_name, 0)
        if count >= WAITING:
            raise LimitExceeded(RETRY_MS, "Too many requests for the state of rooms at the same time")
        self._waiting[server_name] = count + 1
        lock = self._locks.setdefault(server_name, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            self._waiting[server_name] -= 1
            if not self._waiting[server_name]:
                del self._waiting[server_name], self._locks[server_name]
