"""The process's connections to PostgreSQL, and the two ways to use one: `transaction` and `read`.

Owns a bounded pool. A connection that is lost is dropped and replaced on the next demand; whether to try again is
the caller's decision, who knows what it was doing.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator
from typing import LiteralString, Self

import psycopg

from homeserver.storage.connection import Connection, Timeouts
from homeserver.storage.errors import StorageError
from homeserver.storage.statement import Statements
from homeserver.storage.tx import Tx

_LOOK_AGAIN = 1.0
"""Seconds between looks at connections whose answer has not come."""
_GRACE = 5
"""Seconds that a statement's answer may take beyond the statement's own limit."""

__all__ = ["Database", "DatabaseOverloaded", "Timeouts"]


class DatabaseOverloaded(StorageError):
    """No connection became free in time; the request may be tried again later."""


class Database:
    """A pool of at most `size` connections to the database named by `dsn` (URL or `key=value`)."""

    def __init__(self, dsn: str, *, size: int = 10, timeouts: Timeouts | None = None) -> None:
        self.dsn = dsn
        self._size = size
        self._timeouts = timeouts or Timeouts()
        self._statements = Statements()
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._opening = 0
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def used(self) -> int:
        """Connections at work."""
        return len(self._used)

    @property
    def waiting(self) -> int:
        """Who waits for one."""
        return len(self._waiting)

    async def open(self) -> None:
        """Connect once, so that a wrong address is known at the start.

        Raises:
            psycopg.OperationalError: the database cannot be reached.
        """
        self._closed = False
        self._release(await self._acquire())

    async def close(self) -> None:
        """Let go of all connections. Transactions under way are rolled back by PostgreSQL."""
        self._closed = True
        for connection in (*self._idle, *self._used):
            connection.close()
        self._idle.clear()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._wake(all_of_them=True)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Tx]:
        """A read-committed transaction: committed when the block ends, rolled back when it raises.

        Raises:
            DatabaseOverloaded: all connections stayed busy.
            psycopg.Error: whatever PostgreSQL says, also at the commit.
        """
        async with self._tx("BEGIN", read_only=False) as tx:
            yield tx

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Tx]:
        """Several reads that see one and the same state. Raises as `transaction`."""
        async with self._tx("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", read_only=True) as tx:
            yield tx

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Tx]:
        """Reads without a transaction: each statement sees what was committed before it. Raises as `transaction`."""
        connection = await self._acquire()
        try:
            yield Tx(connection, self._statements, begin=None, read_only=True)
        finally:
            self._release(connection)

    @property
    def usage(self) -> tuple[int, int, int]:
        """Connections in use, idle ones, and tasks that wait for one: for the metrics."""
        return len(self._used), len(self._idle), len(self._waiting)

    @contextlib.asynccontextmanager
    async def _tx(self, begin: LiteralString, *, read_only: bool) -> AsyncIterator[Tx]:
        connection = await self._acquire()
        try:
            tx = Tx(connection, self._statements, begin=begin, read_only=read_only)
            try:
                yield tx
                await tx.commit()
            except BaseException:
                # What went wrong is what the caller must hear, not that the rollback failed with the connection.
                with contextlib.suppress(psycopg.Error):
                    await tx.rollback()
                raise
        finally:
            self._release(connection)

    async def _acquire(self) -> Connection:
        loop = asyncio.get_running_loop()
        while True:
            if self._closed:
                raise StorageError("the database is closed")
            while self._idle:
                connection = self._idle.pop()  # the last one used has the warmest caches
                if not connection.broken:
                    self._use(connection)
                    return connection
                connection.close()
            if len(self._used) + self._opening < self._size:
                return await self._open()
            turn = loop.create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(self._timeouts.acquire):
                    await turn
            except TimeoutError:
                raise DatabaseOverloaded(
                    f"no database connection became free in {self._timeouts.acquire} seconds"
                ) from None
            finally:
                if turn.cancelled() or not turn.done():
                    with contextlib.suppress(ValueError):
                        self._waiting.remove(turn)

    async def _open(self) -> Connection:
        self._opening += 1
        try:
            connection = await Connection.open(self.dsn, self._statements, timeouts=self._timeouts)
        except BaseException:
            self._wake()
            raise
        finally:
            self._opening -= 1
        self._use(connection)
        return connection

    def _use(self, connection: Connection) -> None:
        self._used.add(connection)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)

    def _look_again(self) -> None:
        """Every now and then while connections are at work."""
        limit = round((self._timeouts.statement + _GRACE) / _LOOK_AGAIN)
        for connection in tuple(self._used):
            connection.look_again(limit)
        self._watch = (
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
            if self._used and not self._closed
            else None
        )

    def _release(self, connection: Connection) -> None:
        self._used.discard(connection)
        if connection.broken or self._closed:
            connection.close()
        else:
            self._idle.append(connection)
        self._wake()

    def _wake(self, *, all_of_them: bool = False) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                if not all_of_them:
                    return
