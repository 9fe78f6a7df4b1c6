"""One connection to PostgreSQL, always in pipeline mode: several statements travel in one flight.

psycopg connects (addresses, TLS, passwords) and supplies libpq; the statements themselves go straight to libpq: this is
the path every message takes. On a busy machine a transaction of five cost 104 µs of our CPU so, and 815 µs through
psycopg's cursors; a single read 70 to 90 µs, and 115 to 135.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import errors, pq
from psycopg.pq.abc import PGresult

from homeserver.runtime.request_context import count_query
from homeserver.storage.primary import NOTICE_THERE, SILENT, Primary
from homeserver.storage.statement import Statement, Statements

Command = tuple[Statement, Mapping[str, Any]]

_OK = pq.ExecStatus.COMMAND_OK
_TUPLES = pq.ExecStatus.TUPLES_OK
_SYNC = pq.ExecStatus.PIPELINE_SYNC
_GOOD = frozenset({_OK, _TUPLES})

_SESSION: Final = """\
SET statement_timeout = '{statement}s'; SET lock_timeout = '{lock}s';
SET idle_in_transaction_session_timeout = '{idle}s'; SET jit = off; SET timezone = 'UTC';
SET client_min_messages = warning; {notice}"""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long, in whole seconds, the database may take for something before it is given up."""

    connect: int | None = None
    """None: what suits the number of hosts, see `primary`."""
    statement: int = 30
    lock: int = 10
    acquire: int = 15
    """Waiting for a free connection of the pool."""
    several_hosts: bool = False
    """Others wait for what a host has locked that has vanished."""

    @property
    def idle(self) -> int:
        """A transaction left open without a statement: by a process that hangs. What it has locked, the head of the log at
        worst, is free again before anybody else gives up waiting for it.
        """
        return max(1, min(3 if self.several_hosts else 5, self.lock // 2))


class Connection:
    """A connection and the statements it has prepared. One task at a time uses it."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], statements: Statements) -> None:
        self._psycopg = connection
        self._pg: Any = connection.pgconn
        self._statements = statements
        self._prepared: set[bytes] = set()
        self._loop = asyncio.get_running_loop()
        self._fd: int = self._pg.socket
        self._results: list[PGresult] = []
        self._waiter: asyncio.Future[None] | None = None
        """Set when the answers of the flight under way are here."""
        self._writable: asyncio.Future[None] | None = None
        """Set when more of it can be sent."""
        self._looks = 0
        self.broken = False
        self.unanswered = False
        """It was lost, or given up, while an answer was under way."""
        self.silent: psycopg.OperationalError | None = None
        """Why it was lost, if the other side had said nothing for some time. (libpq does not tell these causes apart.)"""
        self._sent_at = 0.0
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()
        self._loop.add_reader(self._fd, self._readable)

    @classmethod
    async def open(
        cls, dsn: str, primary: Primary, statements: Statements, *, timeouts: Timeouts
    ) -> Connection:
        """Connect and set the session's limits.

        Raises:
            psycopg.OperationalError: it cannot be reached, or refuses us.
        """
        limit = {} if timeouts.connect is None else {"connect_timeout": timeouts.connect}
        connection = await primary.connect(dsn, client_encoding="utf8", application_name="atrium", **limit)
        try:
            session = _SESSION.format(
                statement=timeouts.statement, lock=timeouts.lock, idle=timeouts.idle, notice=NOTICE_THERE
            )
            await connection.execute(session.encode())
        except BaseException:
            await connection.close()
            raise
        return cls(connection, statements)

    async def run(self, commands: Sequence[Command]) -> list[PGresult]:
        """Send all commands in one flight and wait for all their results.

        Raises:
            psycopg.Error: of the first command that failed; those after it did not run.
            TypeError: a parameter is missing or of the wrong kind; nothing was sent.
        """
        for statement, _ in commands:
            if statement.oids is None:
                await self._describe(statement)
        encoded = [statement.encode(values) for statement, values in commands]
        send_query, prepared = self._pg.send_query_prepared, self._prepared
        asked: list[bytes | None] = []  # for each result to come: the name of what was prepared, or None
        fresh: set[bytes] = set()
        for (statement, _), values in zip(commands, encoded, strict=True):
            name = statement.name
            if name not in prepared and name not in fresh:
                self._pg.send_prepare(name, statement.sql, statement.oids)
                fresh.add(name)
                asked.append(name)
            send_query(name, values, statement.formats, 1)
            asked.append(None)
        count_query()
        results = await self._flight()
        if fresh:
            prepared.update(
                name for name, result in zip(asked, results, strict=True) if name and result.status == _OK
            )
        self._check(results)
        return [result for result, name in zip(results, asked, strict=True) if name is None]

    def look_again(self, limit: int) -> None:
        """See for oneself whether an answer under way has come, or the connection has gone; after `limit` times in one
        flight it counts as lost.

        The loop may not tell: libuv stops watching a socket that reports an error, and calls us once. What there was left
        to read hides the end behind it. And a host that vanished says nothing at all.
        """
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        self._looks += 1
        if self._looks > limit:
            self._lost(psycopg.OperationalError("the database does not answer"))
        else:
            self._readable()

    def probe(self) -> None:
        """See whether an idle connection has ended, unnoticed by the loop; `broken` tells."""
        for _ in range(2):  # what was said last, then the end
            if not self.broken:
                self._readable()

    def close(self) -> None:
        """Let go of the connection; PostgreSQL rolls back what was not committed. Whoever waits for an answer has lost it."""
        self._lost(psycopg.OperationalError("the connection to the database was closed"))
        self._pg.finish()

    # -------------------------------------------------------------------------------------------------- the flight

    async def _describe(self, statement: Statement) -> None:
        pg = self._pg
        pg.send_prepare(statement.name, statement.sql, None)
        pg.send_describe_prepared(statement.name)
        count_query()
        results = await self._flight()
        self._check(results)
        description = results[1]
        if statement.oids is None:
            statement.describe(description.param_type(i) for i in range(description.nparams))
        self._prepared.add(statement.name)

    async def _flight(self) -> list[PGresult]:
        if self.broken:
            raise psycopg.OperationalError("the connection to the database is lost")
        self._pg.pipeline_sync()
        self._results = []
        self._waiter = self._loop.create_future()
        self._looks, self._sent_at = 0, self._loop.time()
        try:
            if self._pg.flush():
                await self._flush()
            await self._waiter
        except BaseException:
            # Cancelled or lost while an answer was under way: what it would say now belongs to nobody.
            self.broken = self.unanswered = True
            raise
        finally:
            if self._waiter.done() and not self._waiter.cancelled():
                self._waiter.exception()  # told elsewhere, if it was lost while it was sent
            self._waiter = None
        return self._results

    async def _flush(self) -> None:
        """Send what libpq holds back, reading meanwhile: both sides could have their buffers full."""
        while self._pg.flush():
            if self.broken:
                raise psycopg.OperationalError("the connection to the database is lost")
            self._writable = self._loop.create_future()
            self._loop.add_writer(self._fd, _set, self._writable)
            try:
                await self._writable
            finally:
                self._writable = None
                if self._fd >= 0:
                    self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        pg = self._pg
        try:
            pg.consume_input()
            waiter = self._waiter
            if waiter is None:
                return
            ended = False
            while not pg.is_busy():
                result = pg.get_result()
                if result is None:  # the end of one statement
                    if ended:  # twice in a row: what is to come has not arrived
                        return
                    ended = True
                    continue
                ended = False
                status = result.status
                if status == _SYNC:
                    _set(waiter)
                    return
                self._results.append(result)
        except psycopg.Error as error:
            self._lost(error)

    def _check(self, results: Sequence[PGresult]) -> None:
        for result in results:
            if result.status not in _GOOD:
                error = errors.error_from_result(result)
                if isinstance(error, errors.FeatureNotSupported):
                    self.broken = True  # "cached plan must not change result type": the schema moved under us
                raise error

    def _deafen(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._fd = -1

    def _lost(self, error: psycopg.Error) -> None:
        self.broken = True
        silent = self._waiter is not None and self._loop.time() - self._sent_at > SILENT - 1
        if silent and isinstance(error, psycopg.OperationalError):
            self.silent = error
        self._deafen()
        for future in (self._writable, self._waiter):
            if future is not None and not future.done():
                future.set_exception(error)
                break  # it is one task that waits, for one of them


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
