"""The PostgreSQL of a test run: one for all workers, a database for each, cloned from a migrated template.

It is Atrium's own embedded PostgreSQL with `fsync` off (tests of durability start a server of their own), or the one
that `ATRIUM_TEST_DATABASE` names: a `key=value` connection string whose user may create databases.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import conninfo, sql

from homeserver.storage.embedded import EmbeddedPostgres
from tests.support.reaper import stop_databases

# Tests ask for many small databases and keep none: nothing has to survive a power cut.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "400",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum_naptime": "1h",
    "max_wal_size": "512MB",
}
_MEMORY = Path("/dev/shm")
_ROOM = 8 << 30
"""Bytes of memory that must be free for databases to lie there."""
_PREFIX = "atrium-tests-"


@dataclass(frozen=True)
class Postgres:
    """A running PostgreSQL; `dsn` is a connection string to its maintenance database."""

    dsn: str

    def dsn_of(self, database: str) -> str:
        """The connection string of one of its databases."""
        return conninfo.make_conninfo(self.dsn, dbname=database)

    def create(self, name: str, *, template: str = "template0") -> str:
        """Makes a database as a copy of another (nobody may be connected to that one); returns its `dsn`.

        One that was left behind under the name is dropped first.
        """
        self.drop(name)
        make = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
            sql.Identifier(name), sql.Identifier(template)
        )
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(make)
        return self.dsn_of(name)

    def drop(self, name: str) -> None:
        """Drops a database whoever is connected to it; nothing happens where there is none."""
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("SET statement_timeout = '120s'")
            connection.execute(drop)

    async def drop_meanwhile(self, name: str) -> None:
        """As `drop`, while the event loop goes on.

        PostgreSQL waits until all its processes have taken notice, and one that is sending a long answer to a server of this loop
        does not before that has been read.
        """
        await asyncio.to_thread(self.drop, name)


@contextlib.contextmanager
def started() -> Iterator[Postgres]:
    """The PostgreSQL of this run, for as long as the block lasts. To be called in the main thread."""
    if given := os.environ.get("ATRIUM_TEST_DATABASE"):
        yield Postgres(given)
        return
    for place in (_MEMORY, Path(tempfile.gettempdir())):
        _forget_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_place()))
    embedded = EmbeddedPostgres(folder)
    try:
        embedded.start()
        _configure(embedded.dsn)
        embedded.stop()
        embedded.start()
        yield Postgres(embedded.dsn_of("postgres"))
    finally:
        embedded.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path | None:
    """In memory, where there is room: a database is copied there in a tenth of the time. None: where temporary files lie."""
    try:
        free = shutil.disk_usage(_MEMORY).free
    except OSError:
        return None
    return _MEMORY if min(free, psutil.virtual_memory().available) >= _ROOM else None


def _forget_abandoned(place: Path) -> None:
    """What runs that were killed have left."""
    for folder in place.glob(f"{_PREFIX}*-*"):
        number = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if number.isdecimal() and not psutil.pid_exists(int(number)):
            stop_databases(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _configure(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, value in _SETTINGS.items():
            change = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value))
            connection.execute(change)
