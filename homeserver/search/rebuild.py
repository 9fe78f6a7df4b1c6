"""Going through the whole log again, in place: what is found meanwhile is what was found before, or better.

Each step is a transaction that writes the entries of some events and says how far it came, so that any process may go on at any
moment. It begins by itself where the index was made by other rules than today's, or by none.
"""

from __future__ import annotations

import structlog

from homeserver.matrix.cutting import VERSION
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn
from homeserver.search import store
from homeserver.search.indexer import PART_BYTES, PART_EVENTS, Indexer
from homeserver.storage.database import Database

_log = structlog.get_logger("atrium.search")

EVERY, LONGEST = 5.0, 24 * 3600.0
"""Seconds between looks, and that a run may take."""
SHARE = 1.0
"""Pause after a step, in the time that it took: half of a core at most is taken from others."""


class Rebuilding:
    """Runs once in the cluster."""

    def __init__(self, db: Database, indexer: Indexer, clock: Clock) -> None:
        self._db = db
        self._indexer = indexer
        self._clock = clock

    async def once(self) -> None:
        """What is late, and then whatever is left to go through. Raises what the database says."""
        await self._indexer.drain_late()
        async with self._db.read() as tx:
            state = await store.read_rebuild(tx)
        if state is None or state.version != VERSION:
            async with self._db.transaction() as tx:
                await store.begin_rebuild(tx, VERSION)
            _log.info("search.rebuild_begins", version=VERSION)
        elif state.ended:
            return
        began = self._clock.monotonic()
        while await self._step():
            await self._clock.sleep((self._clock.monotonic() - began) * SHARE)
            await next_turn()
            began = self._clock.monotonic()

    async def _step(self) -> bool:
        """Returns whether there is more."""
        async with self._db.transaction() as tx:
            await store.lock(tx)
            state = await store.read_rebuild(tx)
            if state is None or state.ended:
                return False
            rows = await store.find_range(tx, state.done, state.last, PART_BYTES, PART_EVENTS)
            upto = rows[-1][0] if rows else state.last
            kept = await self._indexer.write_in(tx, [nid for nid, shown in rows if shown])
            await store.delete_others(tx, state.done, upto, kept)
            await store.move_rebuild(tx, state.done, upto)
        if upto >= state.last:
            _log.info("search.rebuild_ended", seconds=round(state.seconds, 1))
        return upto < state.last
