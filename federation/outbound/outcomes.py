"""What became of the last transactions to each destination: for people who look at the status. Written now and then."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from federation.outbound import store
from federation.outbound.store import Seen
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

EVERY: Final = 5.0
"""Seconds between writes."""
SUCCESS_MS: Final = 60_000
"""A success is written if the last one that was written is older."""
MAX_REMEMBERED: Final = 20_000
"""Destinations whose last written success is remembered."""
MAX_ERROR: Final = 300
AT_ONCE: Final = 1_000


class Outcomes:
    """Owns what is not written yet: at most a row for each destination."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._unwritten: dict[str, Seen] = {}
        self._written: OrderedDict[str, int] = OrderedDict()
        self._writing = asyncio.Lock()

    def succeeded(self, destination: str) -> None:
        """It has acknowledged a transaction."""
        now = self._clock.now_ms()
        if now - self._written.get(destination, 0) < SUCCESS_MS:
            return
        self._written[destination] = now
        self._written.move_to_end(destination)
        if len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)
        before = self._unwritten.get(destination)
        self._unwritten[destination] = (
            before._replace(success_ms=now) if before is not None else Seen(destination, now, 0, "")
        )

    def failed(self, destination: str, error: str) -> None:
        """It has not."""
        before = self._unwritten.get(destination)
        success_ms = before.success_ms if before is not None else 0
        error = error.replace("\0", "")[:MAX_ERROR]
        self._unwritten[destination] = Seen(destination, success_ms, self._clock.now_ms(), error)
        self._written.pop(destination, None)  # the next success is news

    async def write(self) -> None:
        """Once: what was noted before the call is in the database when it returns."""
        async with self._writing:
            while self._unwritten:
                rows = list(self._unwritten.values())[:AT_ONCE]
                async with self._db.transaction() as tx:
                    await store.write_seen(tx, rows)
                for row in rows:
                    if self._unwritten.get(row.destination) is row:
                        del self._unwritten[row.destination]
