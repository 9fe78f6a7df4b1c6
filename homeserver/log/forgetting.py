"""Forgetting transaction ids that nobody can repeat any more: each request that had one left a row."""

from __future__ import annotations

from homeserver.log import transaction_ids
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

EVERY_SECONDS = 3_600.0
AT_ONCE = 10_000


class Forgetting:
    """Harmless in several processes at once."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def forget(self) -> int:
        """Forget all that is older than `transaction_ids.KEEP_MS`. Returns how many."""
        before_ms = self._clock.now_ms() - transaction_ids.KEEP_MS
        total = 0
        while True:
            async with self._db.transaction() as tx:
                gone = await transaction_ids.delete_older(tx, before_ms, AT_ONCE)
            total += gone
            if gone < AT_ONCE:
                return total
