"""Who serves from a database: one process that need not ask what others wrote, or several that do.

A process that is alone answers from memory without looking at the database first. A second server on the same database
would make those answers stale, so each takes a lock for as long as it serves: alone exclusively, otherwise shared. The
processes of one host that is alone answer from what they tell each other: there the one that writes for the others takes
another lock exclusively (`HOST`), which each process takes shared where several hosts serve.
"""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from homeserver.runtime.clock import Clock
from homeserver.storage.errors import StorageError
from homeserver.storage.primary import Primary

PROCESS = 0x41747269756D  # "Atrium"
HOST = PROCESS + 1
"""The two locks."""
_PATIENCE = 20.0
"""Seconds in which the server that was here before may end; PostgreSQL may see only later that it is gone."""
_LOOK_AGAIN = 0.2
LOOK_EVERY = 5.0
"""Seconds between looks whether the connection is still there."""


class DatabaseTaken(StorageError):
    """Another server serves from this database."""


class Claim:
    """The locks of one process. `take`, `hold` now and then, `release`."""

    def __init__(
        self,
        dsn: str,
        clock: Clock,
        *,
        alone: bool,
        locks: Sequence[int] = (PROCESS,),
        patience: float = _PATIENCE,
    ) -> None:
        """`alone`: the locks are taken exclusively."""
        self._dsn = dsn
        self._clock = clock
        self._locks = locks
        self._alone = alone
        self._patience = patience
        self._primary = Primary()
        self._connection: psycopg.AsyncConnection | None = None

    async def take(self) -> None:
        """Raises `DatabaseTaken` when others keep it, `psycopg.OperationalError` when there is no database."""
        await self.release()
        self._connection = connection = await self._primary.connect(
            self._dsn, application_name="atrium-claim"
        )
        deadline = self._clock.monotonic() + self._patience
        missing = list(self._locks)
        while True:
            while missing and await self._try(connection, missing[0]):
                del missing[0]
            if not missing:
                return
            if self._clock.monotonic() >= deadline:
                await self.release()
                raise DatabaseTaken(
                    "Another Atrium server serves from this database. If that is meant, let every one of them have "
                    "database.shared: true; otherwise stop the other one"
                )
            await self._clock.sleep(_LOOK_AGAIN)

    async def _try(self, connection: psycopg.AsyncConnection, key: int) -> bool:
        function = "pg_try_advisory_lock" if self._alone else "pg_try_advisory_lock_shared"
        row = await (await connection.execute(f"SELECT {function}({key})")).fetchone()
        return row is not None and bool(row[0])

    async def hold(self) -> None:
        """Call every `LOOK_EVERY` seconds: takes it again if the connection was lost.

        Raises `psycopg.OperationalError` when there is no database now, and `DatabaseTaken`.
        """
        try:
            if self._connection is None:
                await self.take()
            else:
                await self._connection.execute("SELECT 1")
        except BaseException:
            await self.release()  # a connection that has not got the lock is worth nothing
            raise

    async def release(self) -> None:
        """Let others have it. Idempotent."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()
