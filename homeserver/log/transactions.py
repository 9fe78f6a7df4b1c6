"""Requests with a transaction id, carried out once: also when the retry comes while the first is under way.

spec: client-server-api/#transaction-identifiers (API-09, API-10)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from homeserver.log import transaction_ids as store
from homeserver.log.entries import AlreadyDone, Position, TransactionId
from homeserver.matrix.errors import MatrixError
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database

SHARE = 0.2
REQUEST_BYTES = 500
"""What a finished request takes in the cache."""


class Transactions:
    """Carries out requests with transaction ids once. Owns those under way here, and a bounded memory of those that are done."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._running: dict[TransactionId, asyncio.Future[Position]] = {}
        self._finished: Cache[TransactionId, Position] = memory.cache("transactions", SHARE)

    async def run(self, key: TransactionId, work: Callable[[], Awaitable[Position]]) -> Position:
        """Carry out `work`, which must append with `txn=key`, or find where it was written before.

        Returns the position of the last entry written (0: none). Raises what `work` raises, unless the request had
        already been carried out: then its first answer counts.
        """
        finished = self._finished.get(key)
        if finished is not None:
            return finished
        if key in self._running:
            return await asyncio.shield(self._running[key])
        future = self._running[key] = asyncio.get_running_loop().create_future()
        try:
            position = await self._carry_out(key, work)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            future.exception()  # nobody may be waiting
            raise
        finally:
            del self._running[key]
        future.set_result(position)
        self._finished.put(key, position, REQUEST_BYTES)
        return position

    async def _carry_out(self, key: TransactionId, work: Callable[[], Awaitable[Position]]) -> Position:
        try:
            return await work()
        except AlreadyDone as repeated:
            return repeated.position
        except MatrixError:
            # What is refused now may have been allowed, and done, when it was asked first.
            before = await self._find(key)
            if before is None:
                raise
            return before

    async def is_known(self, key: TransactionId) -> bool:
        """Whether the request is being carried out, or was."""
        return key in self._finished or key in self._running or await self._find(key) is not None

    async def _find(self, key: TransactionId) -> Position | None:
        async with self._db.read() as tx, tx.pipeline() as batch:
            used = store.find_written(batch, [store.key_of(key)])
        return used.result[0][1] if used.result else None
