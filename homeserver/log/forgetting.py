"""Forgetting what is told for some time only: transaction ids that nobody can repeat any more, and causes of appends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from homeserver.log import causes, transaction_ids
from homeserver.log.readers.floor import passed_by_all
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

EVERY_SECONDS = 3_600.0
AT_ONCE = 10_000


class Forgetting:
    """Harmless in several processes at once."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    async def forget(self) -> int:
        """Forget all that is older than `transaction_ids.KEEP_MS` or `causes.KEEP_MS`. Returns how many."""
        now_ms = self._clock.now_ms()
        async with self._db.read() as tx:
            floor = await passed_by_all(tx)
        before_ms = now_ms - causes.KEEP_MS
        gone = await self._all(lambda tx: causes.delete_older(tx, before_ms, floor, AT_ONCE))
        before_ids_ms = now_ms - transaction_ids.KEEP_MS
        return gone + await self._all(lambda tx: transaction_ids.delete_older(tx, before_ids_ms, AT_ONCE))

    async def _all(self, delete: Callable[[Tx], Awaitable[int]]) -> int:
        total = 0
        while True:
            async with self._db.transaction() as tx:
                gone = await delete(tx)
            total += gone
            if gone < AT_ONCE:
                return total
