"""One at a time per key: for what reads something, changes it and writes it back.

It orders the tasks of one process. What other processes do in between is found by the write itself, which says
`Conflict` (see `log.entries.Checked`); `changed` tries again then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TypeVar

from homeserver.log.entries import Conflict
from homeserver.matrix.errors import Unavailable

T = TypeVar("T")

ATTEMPTS = 20
"""Each lost attempt is a write of another process that was won; with n processes one wins every n-th."""


class KeyedLocks:
    """Locks that exist only while somebody holds or awaits them. First come, first served."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, tuple[asyncio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def of(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the turn of `key`."""
        lock, users = self._queues.setdefault(key, (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._queues[key]

    async def changed(self, key: Hashable, change: Callable[[], Awaitable[T]]) -> T:
        """The result of `change`, which reads, and writes only onto what it has read, else raises `Conflict`.

        Raises:
            Unavailable: other processes were faster, every time.
        """
        async with self.of(key):
            for _ in range(ATTEMPTS):
                try:
                    return await change()
                except Conflict:
                    continue
        raise Unavailable("This is being changed elsewhere, try again")

    def __len__(self) -> int:
        return len(self._queues)
