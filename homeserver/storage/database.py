"""The process's connections to PostgreSQL, and the two ways to use one: `transaction` and `read`.

Owns a bounded pool, first come, first served. A connection that is lost is dropped and replaced on the next demand; whether
to try again is the caller's decision, who knows what it was doing.

Whoever holds a connection may not ask for a second one, and may not wait for anybody who needs one: as many tasks as there
are connections, each waiting for one more, stand still until they time out. Lookups are handed the caller's `Tx` instead.
`tests/unit/test_nested_connections.py` finds such code; what it cannot see raises `NestedConnection` in tests. In production
it is counted and logged, and the second connection is opened beyond the pool's size, so that nobody waits for it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import ClassVar, LiteralString, Self

import psycopg
import structlog

from homeserver.storage.connection import Connection, Timeouts
from homeserver.storage.errors import StorageError
from homeserver.storage.primary import Primary
from homeserver.storage.statement import Statements
from homeserver.storage.tx import Tx

_LOOK_AGAIN = 1.0
"""Seconds between looks at connections whose answer has not come."""
_GRACE = 5
"""Seconds that a statement's answer may take beyond the statement's own limit."""
_SOON = 0.5
"""Seconds in which a database that is there answers who connects."""
_LEAVE_ALONE = 2.0
"""Seconds in which nobody tries to connect to a database that said nothing."""
_TELL_EVERY = 1_000
"""Nested connections of which one is logged, after the first."""

__all__ = ["Database", "DatabaseOverloaded", "NestedConnection", "Timeouts"]

_log = structlog.get_logger(__name__)


class DatabaseOverloaded(StorageError):
    """No connection became free in time; the request may be tried again later."""


class NestedConnection(RuntimeError):
    """A task that holds a connection has asked for another one, or waits for somebody who needs one."""


class _Hold:
    """A connection in the hands of a task, and of the tasks that it starts meanwhile."""

    __slots__ = ("database", "ended")

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ended = False


_holds: ContextVar[_Hold | None] = ContextVar("_holds", default=None)


class Database:
    """A pool of at most `size` connections to the database named by `dsn` (URL or `key=value`)."""

    strict: ClassVar[bool] = False
    """Raise `NestedConnection` instead of counting: for tests."""

    def __init__(self, dsn: str, *, size: int = 10, timeouts: Timeouts | None = None) -> None:
        self.dsn = dsn
        self._size = size
        self._timeouts = timeouts or Timeouts()
        self._primary = Primary()
        self._statements = Statements()
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._opening = 0
        self._attempted = 0.0
        """When the oldest attempt to connect that is under way began, or a later one."""
        self._refused: psycopg.OperationalError | None = None
        """Why the last attempt to connect failed, if none has succeeded since."""
        self._failed_at, self._silent = 0.0, False
        """When that was, and whether it was for want of an answer."""
        self._waiting: collections.deque[asyncio.Future[Connection | None]] = collections.deque()
        """Whose turn has come is given a connection, or None: the right to open one."""
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self.when_full: Callable[[], None] = lambda: None
        """Called when a transaction failed because the database has no room on its disk."""
        self.nested = 0
        """How often a second connection was asked for by who held one; see `NestedConnection`."""

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
        self._release(await self._acquire(first=False))

    async def close(self) -> None:
        """Let go of all connections. Transactions under way are rolled back by PostgreSQL."""
        self._closed = True
        for connection in (*self._idle, *self._used):
            connection.close()
        self._idle.clear()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._turn_away(StorageError("the database is closed"))

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def transaction(self, *, first: bool = False) -> AbstractAsyncContextManager[Tx]:
        """A read-committed transaction: committed when the block ends, rolled back when it raises.

        `first`: before everybody who waits for a connection; for the log, for which all of them may be waiting.

        Raises:
            DatabaseOverloaded: all connections stayed busy.
            NestedConnection: the task holds a connection already; see `strict`.
            psycopg.Error: whatever PostgreSQL says, also at the commit.
        """
        return self._tx("BEGIN", read_only=False, first=first)

    def snapshot(self) -> AbstractAsyncContextManager[Tx]:
        """Several reads that see one and the same state. Raises as `transaction`."""
        return self._tx("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", read_only=True)

    @contextlib.asynccontextmanager
    async def read(self, *, first: bool = False) -> AsyncIterator[Tx]:
        """Reads without a transaction: each statement sees what was committed before it.

        `first` as in `transaction`; raises as that.
        """
        async with self._connection(first=first) as connection:
            yield Tx(connection, self._statements, begin=None, read_only=True)

    def must_not_hold(self, what: str) -> None:
        """Called by what waits for a task that needs a connection, as every append to the log does.

        Raises:
            NestedConnection: the calling task holds a connection; see `strict`.
        """
        hold = _holds.get()
        if hold is not None and not hold.ended and hold.database is self:
            self._nested(what)

    @property
    def usage(self) -> tuple[int, int, int]:
        """Connections in use, idle ones, and tasks that wait for one: for the metrics."""
        return len(self._used), len(self._idle), len(self._waiting)

    @contextlib.asynccontextmanager
    async def _tx(self, begin: LiteralString, *, read_only: bool, first: bool = False) -> AsyncIterator[Tx]:
        async with self._connection(first=first, insist=first) as connection:
            tx = Tx(connection, self._statements, begin=begin, read_only=read_only)
            try:
                yield tx
                await tx.commit()
            except BaseException as error:
                if isinstance(error, psycopg.errors.DiskFull):
                    self.when_full()
                # What went wrong is what the caller must hear, not that the rollback failed with the connection.
                with contextlib.suppress(psycopg.Error):
                    await tx.rollback()
                raise

    @contextlib.asynccontextmanager
    async def _connection(self, *, first: bool, insist: bool = False) -> AsyncIterator[Connection]:
        before = _holds.get()
        nested = before is not None and not before.ended and before.database is self
        if nested:
            self._nested("a second connection")
        connection = await self._acquire(first=first, beyond=nested, insist=insist)
        hold = _Hold(self)
        _holds.set(hold)
        try:
            yield connection
        finally:
            hold.ended = True
            _holds.set(before)
            self._release(connection)

    def _nested(self, what: str) -> None:
        if self.strict:
            raise NestedConnection(f"{what} was asked for while a connection is held")
        self.nested += 1
        if self.nested == 1 or self.nested % _TELL_EVERY == 0:
            _log.error("database.nested", what=what, times=self.nested, stack_info=True)

    async def _acquire(self, *, first: bool, beyond: bool = False, insist: bool = False) -> Connection:
        if self._closed:
            raise StorageError("the database is closed")
        while self._idle:
            connection = self._idle.pop()  # the last one used has the warmest caches
            if not connection.broken:
                return self._use(connection)
            connection.close()
        if self._refused is not None and self._hopeless(insist=insist):
            raise type(self._refused)(*self._refused.args)
        if len(self._used) + self._opening < (2 * self._size if beyond else self._size):
            self._opening += 1
            return await self._open()
        given = await self._take_turn(first=first)
        if given is None:
            return await self._open()
        return given

    def _hopeless(self, *, insist: bool) -> bool:
        """The database says nothing to who asks for a connection: that may take seconds each time. Who writes to the log goes
        on trying (`insist`), others every two seconds.
        """
        now = asyncio.get_running_loop().time()
        if self._opening > 0 and not self._used and now - self._attempted > _SOON:
            return True
        return self._silent and not insist and (self._opening > 0 or now < self._failed_at + _LEAVE_ALONE)

    def _distrust(self, error: psycopg.OperationalError) -> None:
        """A connection was lost for want of an answer: idle ones look well but are no better, and a new one would wait as long."""
        for each in self._idle:
            each.close()
        self._idle.clear()
        self._refused, self._silent = error, True
        self._failed_at = asyncio.get_running_loop().time()

    async def _take_turn(self, *, first: bool) -> Connection | None:
        """Wait for a connection, or (None) for the right to open one."""
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        try:
            async with asyncio.timeout(self._timeouts.acquire):
                return await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._give_back(turn.result())  # it came in the same moment
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
            if isinstance(error, TimeoutError):
                raise DatabaseOverloaded(
                    f"no database connection became free in {self._timeouts.acquire} seconds"
                ) from None
            raise

    def _give_back(self, given: Connection | None) -> None:
        if given is not None:
            self._release(given)
        else:
            self._opening -= 1
            self._next()

    async def _open(self) -> Connection:
        """Connect, as one of those that `_opening` counts."""
        began = asyncio.get_running_loop().time()
        if self._opening == 1:
            self._attempted = began
        try:
            connection = await Connection.open(
                self.dsn, self._primary, self._statements, timeouts=self._timeouts
            )
        except BaseException as error:
            self._opening -= 1
            if isinstance(error, psycopg.OperationalError) and not self._used:
                # Nobody has a connection, so the others would wait as long as this one did to hear the same.
                self._refused, self._failed_at = error, asyncio.get_running_loop().time()
                self._silent = self._failed_at - began > _SOON
                self._turn_away(error)
            else:
                self._next()
            raise
        self._opening -= 1
        self._refused = None
        if self._closed:
            connection.close()
            raise StorageError("the database is closed")
        return self._use(connection)

    def _use(self, connection: Connection) -> Connection:
        self._used.add(connection)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().call_later(_LOOK_AGAIN, self._look_again)
        return connection

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
        too_many = len(self._used) + self._opening >= self._size
        if connection.broken or self._closed or too_many:
            if connection.broken:  # what ended this one may have ended the others
                for each in self._idle:
                    each.probe()
                if connection.silent is not None:
                    self._distrust(connection.silent)
            connection.close()
            self._next()
            return
        turn = self._whose_turn()
        if turn is None:
            self._idle.append(connection)
        else:  # handed over, or whoever comes by would be before those who wait
            turn.set_result(self._use(connection))

    def _next(self) -> None:
        """There may be room for one connection more."""
        if len(self._used) + self._opening < self._size and (turn := self._whose_turn()) is not None:
            self._opening += 1
            turn.set_result(None)

    def _whose_turn(self) -> asyncio.Future[Connection | None] | None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                return turn
        return None

    def _turn_away(self, error: Exception) -> None:
        """Tell everybody who waits."""
        while (turn := self._whose_turn()) is not None:
            turn.set_exception(type(error)(*error.args))
            turn.exception()  # its task may have been cancelled in this moment
