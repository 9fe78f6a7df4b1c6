"""Merges state rows at round heights, behind the writers: the same states, in fewer hops.

What is not merged (a process ended first) is read in more hops, and merged when `sweep` comes by.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from homeserver.graph import states
from homeserver.graph.entry import EventEntry
from homeserver.log.entries import Entry, Position
from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

MAX_QUEUED = 10_000


class Compaction:
    """One per process: a projection that notes which rows are due, and the loop that merges them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._due: deque[tuple[int, int]] = deque(maxlen=MAX_QUEUED)
        self._wake = asyncio.Event()

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._event}

    def reset(self) -> None:
        """Rows that were missed are merged by the next sweep."""

    def _event(self, _: Position, entry: EventEntry) -> None:
        height = entry.room_state.height
        if entry.changes and height and height % states.STEP == 0:
            self._due.append((entry.room_state.nid, height))
            self._wake.set()

    async def run(self) -> None:
        """Merge what is due, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.drain()

    async def drain(self) -> None:
        """Merge all that is due now."""
        while self._due:
            state_nid, height = self._due.popleft()
            try:
                async with self._db.transaction() as tx:
                    await states.merge(tx, state_nid, height)
            except Exception:
                log.exception("compaction.failed", state_nid=state_nid)


async def sweep(db: Database, limit: int = 1_000) -> int:
    """Merge rows at round heights that were left behind, at most `limit`, lowest first. Returns how many."""
    async with db.read() as tx:
        due = await tx.all(
            """
            SELECT s.state_nid, s.height FROM state s JOIN state p ON p.state_nid = s.parent
            WHERE s.height %% 16 = 0 AND s.height > 0 AND p.height = s.height - 1
            ORDER BY s.height LIMIT %(limit)s
            """,
            limit=limit,
        )
    merged = 0
    for state_nid, height in due:
        async with db.transaction() as tx:
            merged += await states.merge(tx, state_nid, height)
    return merged
