"""Keeps states short and few: shortcuts that were missed, states that nothing stands on.

One process of a cluster does a round at a time. Each batch is a short transaction of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from homeserver.graph.state import garbage
from homeserver.graph.state.compaction import shorten
from homeserver.graph.state.rows import FIRST_RESOLVED, BrokenState
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

log = structlog.get_logger(__name__)

FIRST_AFTER, EVERY, LONGEST = 300.0, 6 * 3600.0, 12 * 3600.0
"""Seconds until the first round, between rounds, and that one may take."""
ROOMS_AT_ONCE = 100
PAUSE = 0.05
"""Seconds between batches, for everybody else."""


class Done(NamedTuple):
    """What a round came to."""

    rooms: int
    shortcuts: int
    deleted: int


class StateUpkeep:
    """Rounds over all rooms."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def once(self) -> Done:
        """One round over all rooms and all states made by resolution. Raises what the database says."""
        rooms, shortcuts = await self._rooms()
        done = Done(rooms, shortcuts, await self._resolved() + await self._shortcuts())
        log.info("state.upkeep", **done._asdict())
        return done

    async def _rooms(self) -> tuple[int, int]:
        seen, made, last = 0, 0, 0
        while True:
            async with self._db.read() as tx:
                rows = await tx.all(
                    """
                    SELECT room_nid, state_nid FROM rooms WHERE room_nid > %(last)s
                    ORDER BY room_nid LIMIT %(limit)s
                    """,
                    last=last,
                    limit=ROOMS_AT_ONCE,
                )
            if not rows:
                return seen, made
            for room_nid, state_nid in rows:
                try:
                    made += await shorten(self._db, state_nid)
                except BrokenState:
                    log.exception("state.broken", room_nid=room_nid)
            seen, last = seen + len(rows), rows[-1][0]
            await self._clock.sleep(PAUSE)

    async def _resolved(self) -> int:
        deleted, below = 0, FIRST_RESOLVED + 1
        while (swept := await garbage.sweep(self._db, below)).last is not None:
            deleted, below = deleted + swept.deleted, swept.last
            await self._clock.sleep(PAUSE)
        return deleted

    async def _shortcuts(self) -> int:
        deleted, above = 0, -(2**63)
        while (swept := await garbage.sweep_shortcuts(self._db, above)).last is not None:
            deleted, above = deleted + swept.deleted, swept.last
            await self._clock.sleep(PAUSE)
        return deleted
