"""The PostgreSQL below a server: the same programs with the same settings for each, and proof that they are durable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from homeserver.storage.embedded import EmbeddedPostgres

TOLD = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


@contextmanager
def own_database(directory: Path, name: str) -> Iterator[tuple[EmbeddedPostgres, str]]:
    """A PostgreSQL under `directory` with an empty database (collation C), or the one that is there; yields both, the second
    as a dsn.
    """
    with EmbeddedPostgres(directory) as postgres:
        with psycopg.connect(postgres.dsn, autocommit=True) as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if there is None:
                connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
        yield postgres, postgres.dsn_of(name)


def describe(dsn: str) -> str:
    """Version and settings in words, as the database itself tells them.

    Raises ValueError when it would lose an acknowledged write in a power cut: such figures are worth nothing.
    """
    with psycopg.connect(dsn) as connection:
        settings = {name: str(_show(connection, name)) for name in {*TOLD, *DURABLE}}
    if lax := [name for name in DURABLE if settings[name] != "on"]:
        raise ValueError(
            f"PostgreSQL runs with {', '.join(lax)} off; nothing measured on it is worth telling"
        )
    return f"PostgreSQL {settings[TOLD[0]]}, " + ", ".join(f"{name} {settings[name]}" for name in TOLD[1:])


def _show(connection: psycopg.Connection[tuple[object, ...]], name: str) -> object:
    row = connection.execute(f"SHOW {name}".encode()).fetchone()
    return row[0] if row else None
