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


ADDED = "-- depends: 0010-second\n-- older: may run\nALTER TABLE a ADD COLUMN more int;\n"
TAKEN = "-- depends: 0011-added\nALTER TABLE a DROP COLUMN t;\n"


def test_the_version_before_may_start_on_what_only_adds(empty: str, folder: Path) -> None:
    migrate.apply(empty, folder=folder)
    (folder / "0011-added.sql").write_text(ADDED)
    migrate.apply(empty, folder=folder)
    (folder / "0011-added.sql").unlink()
    migrate.require_current(empty, folder=folder)
    assert migrate.inspect(empty, folder=folder) == migrate.SchemaState((), (), newer=("0011-added",))
    assert migrate.apply(empty, folder=folder) == ()


def test_the_version_before_does_not_start_on_what_takes_away(empty: str, folder: Path) -> None:
    (folder / "0011-added.sql").write_text(ADDED)
    (folder / "0012-taken.sql").write_text(TAKEN)
    migrate.apply(empty, folder=folder)
    (folder / "0012-taken.sql").unlink()
    with pytest.raises(SchemaMismatch, match=r"newer Atrium.*0012-taken"):
        migrate.require_current(empty, folder=folder)
    (folder / "0011-added.sql").unlink()
    with pytest.raises(SchemaMismatch, match="newer Atrium"):
        migrate.require_current(empty, folder=folder)


def test_what_is_taken_away_lets_start_who_does_without(empty: str, folder: Path) -> None:
    """The version before knows what came in its place; the one before that does not."""
    (folder / "0011-added.sql").write_text(ADDED)
    (folder / "0012-taken.sql").write_text("-- older: may run if it knows 0011-added\n" + TAKEN)
    migrate.apply(empty, folder=folder)
    (folder / "0012-taken.sql").unlink()
    migrate.require_current(empty, folder=folder)
    (folder / "0011-added.sql").unlink()
    with pytest.raises(SchemaMismatch, match="newer Atrium"):
        migrate.require_current(empty, folder=folder)


def test_a_version_that_lacks_something_is_not_older(empty: str, folder: Path) -> None:
    """It is another branch: neither knows what the other needs."""
    (folder / "0011-added.sql").write_text(ADDED)
    migrate.apply(empty, folder=folder)
    (folder / "0011-added.sql").rename(folder / "0011-other.sql")
    for refuse in (migrate.require_current, migrate.apply):
        with pytest.raises(SchemaMismatch, match="newer Atrium"):
            refuse(empty, folder=folder)


def test_our_own_migrations_apply_to_an_empty_database(empty: str) -> None:
    applied = migrate.apply(empty)
    assert applied == tuple(sorted(applied))
    migrate.require_current(empty)


def test_an_unreachable_database_is_said_so() -> None:
    with pytest.raises(StorageError, match="cannot be reached"):
        migrate.inspect("host=/nowhere dbname=x")
