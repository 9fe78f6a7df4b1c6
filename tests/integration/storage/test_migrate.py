"""Migrations are applied once each, in order, by whoever comes first."""

import concurrent.futures
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from homeserver.storage import migrate
from homeserver.storage.errors import SchemaMismatch, StorageError

FIRST = """\
-- A first table: text with a semicolon; and a percent %.
-- depends:
CREATE TABLE a (id bigint PRIMARY KEY, t text NOT NULL DEFAULT 'x;%'::text CHECK (t LIKE 'x%'));
CREATE FUNCTION two() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    PERFORM 1; RETURN 2;
END $$;
"""
SECOND = "-- depends: 0001-first\nINSERT INTO a (id) VALUES (two());\n"

_numbers = itertools.count()


@pytest.fixture
def empty(postgres: Callable[..., str], worker: str) -> Iterator[str]:
    name = f"empty_{worker}_{next(_numbers)}"
    yield postgres.create(name)  # type: ignore[attr-defined]
    postgres.drop(name)  # type: ignore[attr-defined]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001-first.sql").write_text(FIRST)
    (tmp_path / "0010-second.sql").write_text(SECOND)
    return tmp_path


def test_what_is_missing_is_applied_in_order_and_only_once(empty: str, folder: Path) -> None:
    told: list[str] = []
    assert migrate.inspect(empty, folder=folder).pending == ("0001-first", "0010-second")
    assert migrate.apply(empty, folder=folder, on_each=told.append) == ("0001-first", "0010-second")
    assert told == ["0001-first", "0010-second"]
    assert migrate.apply(empty, folder=folder) == ()
    assert migrate.inspect(empty, folder=folder).current
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT id, t FROM a").fetchall() == [(2, "x;%")]


def test_many_processes_at_once_do_it_once(empty: str, folder: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrate.apply(empty, folder=folder), range(4)))
    assert sorted(map(len, done)) == [0, 0, 0, 2]


def test_a_failed_migration_leaves_nothing_behind_and_is_named(empty: str, folder: Path) -> None:
    (folder / "0011-broken.sql").write_text("-- depends: 0010-second\nCREATE TABLE b ();\nSELECT nothing;\n")
    with pytest.raises(StorageError, match="0011-broken"):
        migrate.apply(empty, folder=folder)
    assert migrate.inspect(empty, folder=folder).pending == ("0011-broken",)
    (folder / "0011-broken.sql").write_text("-- depends: 0010-second\nCREATE TABLE b ();\n")
    assert migrate.apply(empty, folder=folder) == ("0011-broken",)


def test_another_schema_is_refused_with_what_to_do(empty: str, folder: Path) -> None:
    with pytest.raises(SchemaMismatch, match="atrium migrate"):
        migrate.require_current(empty, folder=folder)
    migrate.apply(empty, folder=folder)
    migrate.require_current(empty, folder=folder)
    (folder / "0010-second.sql").unlink()
    for refuse in (migrate.require_current, migrate.apply):
        with pytest.raises(SchemaMismatch, match=r"newer Atrium.*0010-second"):
            refuse(empty, folder=folder)


def test_our_own_migrations_apply_to_an_empty_database(empty: str) -> None:
    applied = migrate.apply(empty)
    assert applied == tuple(sorted(applied))
    migrate.require_current(empty)


def test_an_unreachable_database_is_said_so() -> None:
    with pytest.raises(StorageError, match="cannot be reached"):
        migrate.inspect("host=/nowhere dbname=x")
