"""What a `store.py` is handed: a transaction, or a plain reader.

`BEGIN` travels with the first statement and, on request, `COMMIT` with the last, so a transaction made of one
`pipeline(commit=True)` is a single round trip.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, LiteralString, TypeVar

from psycopg.pq.abc import PGresult

from homeserver.storage.connection import Command, Connection
from homeserver.storage.statement import Statement, Statements

T = TypeVar("T")

_NO_VALUES: Mapping[str, Any] = {}


class Tx:
    """One transaction, or (with `read_only`) statements that each see the newest committed state.

    Parameters are named, `%(name)s`, and typed by PostgreSQL: write `%(ids)s::bigint[]` where the context does not
    say. A percent sign is written `%%`. Every method may raise `psycopg.Error`; the transaction is over then.
    """

    __slots__ = ("_connection", "_statements", "_read_only", "_begin", "_open", "_over", "in_doubt")

    def __init__(
        self, connection: Connection, statements: Statements, *, begin: LiteralString | None, read_only: bool
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._read_only = read_only
        self._begin = None if begin is None else statements.get(begin)
        self._open = False
        self._over = False
        self.in_doubt = False
        """A COMMIT was sent and the connection lost before the answer came: only the database knows whether it lasts."""

    async def execute(self, sql: LiteralString, /, **values: Any) -> int:
        """Run a statement; the number of rows it touched."""
        return (await self._one(sql, values))[1].command_tuples or 0

    async def all(self, sql: LiteralString, /, **values: Any) -> list[tuple[Any, ...]]:
        """All rows, as plain tuples."""
        statement, result = await self._one(sql, values)
        return statement.decode(result, tuple)

    async def rows(self, row: Callable[..., T], sql: LiteralString, /, **values: Any) -> list[T]:
        """All rows, each as `row(*columns)`: a NamedTuple, dataclass or msgspec struct with the columns in order."""
        statement, result = await self._one(sql, values)
        return statement.decode(result, _maker(row))

    async def one(self, sql: LiteralString, /, **values: Any) -> tuple[Any, ...] | None:
        """The first row, or None if there is none."""
        statement, result = await self._one(sql, values)
        return next(iter(statement.decode(result, tuple)), None)

    async def row(self, row: Callable[..., T], sql: LiteralString, /, **values: Any) -> T | None:
        """The first row as `row(*columns)`, or None if there is none."""
        statement, result = await self._one(sql, values)
        return next(iter(statement.decode(result, _maker(row))), None)

    async def value(self, sql: LiteralString, /, **values: Any) -> Any:
        """The first column of the first row; None if there is no row (or it is null)."""
        statement, result = await self._one(sql, values)
        return next((columns[0] for columns in statement.decode(result, tuple)), None)

    async def column(self, sql: LiteralString, /, **values: Any) -> list[Any]:
        """The first column of all rows."""
        statement, result = await self._one(sql, values)
        return [columns[0] for columns in statement.decode(result, tuple)]

    @contextlib.asynccontextmanager
    async def pipeline(self, *, commit: bool = False) -> AsyncIterator[Pipeline]:
        """Collect statements and send them in one flight when the block ends; results can be read after it.

        With `commit`, the transaction's COMMIT is part of the flight: nothing may follow.
        """
        pipeline = Pipeline(self._statements)
        yield pipeline
        if pipeline.commands or commit:
            pipeline.deliver(await self._run(pipeline.commands, commit=commit))

    @property
    def lost(self) -> bool:
        """The connection is gone: nothing more can be done here."""
        return self._connection.broken

    # ------------------------------------------------------------------------------------------ for Database alone

    async def commit(self) -> None:
        """Make it last. Nothing is sent if nothing was done."""
        if self._open and not self._over:
            await self._run([], commit=True)

    async def rollback(self) -> None:
        """Undo it, if anything was sent."""
        if self._open and not self._connection.broken:
            self._open = False
            await self._connection.run([(self._statements.get("ROLLBACK"), _NO_VALUES)])

    # ------------------------------------------------------------------------------------------------------ inside

    async def _one(self, sql: LiteralString, values: Mapping[str, Any]) -> tuple[Statement, PGresult]:
        statement = self._statements.by_sql.get(sql) or self._statements.get(sql)
        return statement, (await self._run([(statement, values)]))[0]

    def _permit(self, *, write: bool) -> None:
        if self._over:
            raise RuntimeError("the transaction is over")
        if write and self._read_only:
            raise RuntimeError("db.read() reads; open db.transaction() to write")

    async def _run(self, commands: list[Command], *, commit: bool = False) -> list[PGresult]:
        for statement, _ in commands:
            self._permit(write=statement.writes)
        opening = self._begin is not None and not self._open
        flight = commands
        if opening and self._begin is not None:
            flight = [(self._begin, _NO_VALUES), *commands]
        if commit:
            flight = [*flight, (self._statements.get("COMMIT"), _NO_VALUES)]
        if opening:
            self._open = True
        try:
            results = await self._connection.run(flight)
        except BaseException:
            self.in_doubt = commit and self._connection.unanswered
            raise
        if commit:
            self._over, self._open = True, False
        return results[1 : 1 + len(commands)] if opening else results[: len(commands)]


class Later(Generic[T]):
    """The result of a statement in a pipeline: `.result` has it once the `async with` block has ended."""

    __slots__ = ("result",)

    result: T


class Pipeline:
    """Statements to be sent together; the methods are those of `Tx`, with the result following later."""

    __slots__ = ("_statements", "_receivers", "commands")

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._receivers: list[Callable[[PGresult], None]] = []
        self.commands: list[Command] = []

    def execute(self, sql: LiteralString, /, **values: Any) -> Later[int]:
        """See `Tx.execute`."""
        return self._add(sql, values, lambda _, result: result.command_tuples or 0)

    def all(self, sql: LiteralString, /, **values: Any) -> Later[list[tuple[Any, ...]]]:
        """See `Tx.all`."""
        return self._add(sql, values, lambda statement, result: statement.decode(result, tuple))

    def pieces(
        self, size: int, sql: LiteralString, /, **values: Any
    ) -> Later[Iterator[list[tuple[Any, ...]]]]:
        """All rows as `all`, `size` at a time: each piece is made when it is asked for, also after the transaction."""
        return self._add(sql, values, lambda statement, result: statement.decode_pieces(result, tuple, size))

    def rows(self, row: Callable[..., T], sql: LiteralString, /, **values: Any) -> Later[list[T]]:
        """See `Tx.rows`."""
        return self._add(sql, values, lambda statement, result: statement.decode(result, _maker(row)))

    def one(self, sql: LiteralString, /, **values: Any) -> Later[tuple[Any, ...] | None]:
        """See `Tx.one`."""
        return self._add(
            sql, values, lambda statement, result: next(iter(statement.decode(result, tuple)), None)
        )

    def deliver(self, results: Sequence[PGresult]) -> None:
        """Hand each statement its result."""
        for receive, result in zip(self._receivers, results, strict=True):
            receive(result)

    def _add(
        self, sql: LiteralString, values: Mapping[str, Any], read: Callable[[Statement, PGresult], T]
    ) -> Later[T]:
        statement = self._statements.by_sql.get(sql) or self._statements.get(sql)
        later: Later[T] = Later()

        def receive(result: PGresult) -> None:
            later.result = read(statement, result)

        self.commands.append((statement, values))
        self._receivers.append(receive)
        return later


_MAKERS: dict[Any, Callable[[Any], Any]] = {}


def _maker(row: Callable[..., T]) -> Callable[[Any], T]:
    maker = _MAKERS.get(row)
    if maker is None:
        maker = getattr(row, "_make", None) or (lambda columns: row(*columns))
        if isinstance(row, type):  # a function made on the spot would stay here for ever
            _MAKERS[row] = maker
    return maker
