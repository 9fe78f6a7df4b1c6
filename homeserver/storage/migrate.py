"""Brings a database's schema to the one this version needs: numbered SQL files, applied once each, in order.

The files are `migrations/NNNN-name.sql` with `-- depends:` headers; yoyo applies them and keeps the record. A landed
file is never edited: what must change is a new file. One with the line `-- older: may run` takes nothing away that any
older version needs; with `-- older: may run if it knows NNNN-name`, that a version needs which knows that migration. The
database remembers it, and such a version may still be started (docs/upgrading.md).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from homeserver.storage.errors import SchemaMismatch, StorageError

if TYPE_CHECKING:
    from yoyo.migrations import MigrationList

FOLDER = Path(__file__).parent / "migrations"
OLDEST_SERVER = 150000  # PostgreSQL 15, as `server_version_num`

_RECORD = "_yoyo_migration"
_OLDER = "_atrium_older_may_run"
_MARK = re.compile(r"^-- older: may run(?: if it knows (\S+))?$", re.MULTILINE)
_LOCK = 0x617472_69756D  # "atrium": one migration at a time in a database, whoever runs it


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What a database lacks (`pending`, in order) and what it has that this version does not know.

    That is `newer` if this version may run all the same, else `unknown`.
    """

    pending: tuple[str, ...]
    unknown: tuple[str, ...]
    newer: tuple[str, ...] = ()

    @property
    def current(self) -> bool:
        return not self.pending and not self.unknown


def inspect(dsn: str, *, folder: Path = FOLDER) -> SchemaState:
    """Compare the database's record with our files; one short query, so every start can ask.

    Raises:
        StorageError: the database cannot be reached, or is too old.
    """
    with _connect(dsn) as connection:
        return _compare(connection, folder)


def require_current(dsn: str, *, folder: Path = FOLDER) -> None:
    """Refuse to run on a schema that is not ours, unless it is a newer one on which this version may run.

    Raises:
        SchemaMismatch: with the command that puts it right.
    """
    state = inspect(dsn, folder=folder)
    if state.unknown:
        raise SchemaMismatch(
            f"The database was migrated by a newer Atrium (it knows {state.unknown[-1]}); install that version"
        )
    if state.pending:
        raise SchemaMismatch(
            f"The database lacks {len(state.pending)} migrations (the first is {state.pending[0]}); "
            "run: atrium migrate"
        )


def apply(
    dsn: str, *, folder: Path = FOLDER, on_each: Callable[[str], None] = lambda _: None
) -> tuple[str, ...]:
    """Apply what is missing, telling `on_each` the name of each before it runs; returns the names.

    Several processes may call it at once: one works, the others wait and find nothing to do.

    Raises:
        SchemaMismatch: the schema is newer than ours.
        StorageError: the database cannot be reached, or a migration failed (it then left nothing behind).
    """
    with _connect(dsn) as connection:
        if _compare(connection, folder).current:
            return ()
        connection.execute("SET lock_timeout = 0")
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        state = _compare(connection, folder)
        if state.unknown:
            raise SchemaMismatch(
                f"The database was migrated by a newer Atrium (it knows {state.unknown[-1]}); install that version"
            )
        _mark_harmless(connection, folder, state.pending)
        _apply_files(dsn, folder, on_each)
        return state.pending


def _mark_harmless(connection: psycopg.Connection[Any], folder: Path, names: tuple[str, ...]) -> None:
    """Before they are applied: of one that never is, nobody asks."""
    found = ((name, _MARK.search((folder / f"{name}.sql").read_text(encoding="utf-8"))) for name in names)
    marks = {name: mark[1] for name, mark in found if mark is not None}
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_OLDER} (migration_id text PRIMARY KEY, knows text)"  # only it, or any older one
    )
    connection.execute(
        f"INSERT INTO {_OLDER} SELECT * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",  # noqa: S608  # ours
        (list(marks), list(marks.values())),
    )


@contextlib.contextmanager
def _connect(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        connection = psycopg.connect(
            dsn, autocommit=True, connect_timeout=10, application_name="atrium-migrate"
        )
    except psycopg.OperationalError as error:
        raise StorageError(f"The database cannot be reached: {str(error).strip()}") from error
    with contextlib.closing(connection):
        if connection.info.server_version < OLDEST_SERVER:
            version = connection.info.server_version // 10000
            raise StorageError(f"The database is PostgreSQL {version}; Atrium needs 15 or newer")
        yield connection


def _compare(connection: psycopg.Connection[Any], folder: Path) -> SchemaState:
    ours = [file.stem for file in sorted(folder.glob("*.sql")) if not file.name.endswith(".rollback.sql")]
    applied = {name for (name,) in _rows(connection, "SELECT migration_id FROM {}", _RECORD)}
    marks = _rows(connection, "SELECT migration_id, knows FROM {}", _OLDER)
    harmless = {name for name, knows in marks if knows is None or knows in ours}
    pending = tuple(name for name in ours if name not in applied)
    foreign = tuple(sorted(applied - set(ours)))
    if not pending and harmless.issuperset(foreign):
        return SchemaState(pending=(), unknown=(), newer=foreign)
    return SchemaState(pending=pending, unknown=foreign)


def _rows(connection: psycopg.Connection[Any], query: str, table: str) -> list[tuple[Any, ...]]:
    """What a query says of a table (put in at `{}`); nothing if there is no such table."""
    exists = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()
    if exists is None or exists[0] is None:
        return []
    return connection.execute(query.format(table)).fetchall()


def _apply_files(dsn: str, folder: Path, on_each: Callable[[str], None]) -> None:
    from yoyo import read_migrations  # here: a start with nothing to do must not pay for it
    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
    from yoyo.connections import parse_uri

    class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo is untyped
        """yoyo's, except that it connects as we do: any connection string libpq understands."""

        def connect(self, _: object) -> psycopg.Connection[Any]:
            return psycopg.connect(
                dsn, autocommit=True, connect_timeout=10, application_name="atrium-migrate"
            )

    backend = Backend(parse_uri("postgresql+psycopg://"), _RECORD)
    try:
        backend.init_database()
        backend.break_lock()  # ours is the advisory lock; a row left by a killed process would only delay us
        files: MigrationList = backend.to_apply(read_migrations(str(folder)))
        with backend.lock():
            for file in files:
                on_each(file.id)
                try:
                    backend.apply_one(file)
                except psycopg.Error as error:
                    raise StorageError(f"Migration {file.id} failed: {str(error).strip()}") from error
    finally:
        backend.connection.close()
