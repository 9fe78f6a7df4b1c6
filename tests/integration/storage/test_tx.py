"""Statements, transactions and flights on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import psycopg
import pytest

from homeserver.storage.database import Database, Timeouts
from homeserver.storage.encoding import storable
from homeserver.storage.errors import UnstorableText
from tests.support.tasks import beside

CREATE = "CREATE TABLE things (id bigint PRIMARY KEY, name text NOT NULL, body bytea, tags text[])"


class Thing(NamedTuple):
    id: int
    name: str


@dataclass
class ThingClass:
    id: int
    name: str


@pytest.fixture
async def db(database: str) -> AsyncIterator[Database]:
    async with Database(database, size=4, timeouts=Timeouts(acquire=1)) as opened:
        async with opened.transaction() as tx:
            await tx.execute(CREATE)
        yield opened


async def add(db: Database, number: int, name: str) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO things (id, name) VALUES (%(id)s, %(name)s)", id=number, name=name)


async def names(db: Database) -> list[str]:
    async with db.read() as tx:
        return await tx.column("SELECT name FROM things ORDER BY id")


async def test_rows_come_as_tuples_named_tuples_or_classes(db: Database) -> None:
    await add(db, 1, "one")
    await add(db, 2, "two")
    async with db.read() as tx:
        assert await tx.all("SELECT id, name FROM things ORDER BY id") == [(1, "one"), (2, "two")]
        assert await tx.rows(Thing, "SELECT id, name FROM things ORDER BY id") == [
            Thing(1, "one"),
            Thing(2, "two"),
        ]
        assert await tx.row(ThingClass, "SELECT id, name FROM things WHERE id = %(id)s", id=2) == ThingClass(
            2, "two"
        )
        assert await tx.one("SELECT id, name FROM things WHERE id = %(id)s", id=3) is None
        assert await tx.value("SELECT count(*) FROM things") == 2
        assert await tx.column(
            "SELECT id FROM things WHERE id = ANY(%(ids)s) ORDER BY id", ids=[1, 2, 9]
        ) == [1, 2]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bigint", -(2**63)),
        ("integer", 2**31 - 1),
        ("smallint", -3),
        ("boolean", False),
        ("text", "ü \U0001f600 %s"),
        ("bytea", b"\x00\xff%s"),
        ("double precision", 1.5),
        ("bigint[]", [1, None, 3]),
        ("text[]", ["a", "", "ü", None]),
        ("bytea[]", [b"", b"\x00"]),
        ("boolean[]", [True, False]),
        ("bigint[]", []),
        ("bigint", None),
        ("text[]", None),
        ("uuid", UUID(int=7)),
        ("uuid[]", [UUID(int=2**128 - 1), None]),
    ],
)
async def test_values_survive_the_journey(db: Database, kind: str, value: object) -> None:
    async with db.read() as tx:
        assert await tx.value(f"SELECT %(value)s::{kind}", value=value) == value  # type: ignore[arg-type]


async def test_many_rows_travel_as_arrays_in_one_statement(db: Database) -> None:
    async with db.transaction() as tx:
        written = await tx.execute(
            """
            INSERT INTO things (id, name, body)
            SELECT * FROM unnest(%(ids)s::bigint[], %(names)s::text[], %(bodies)s::bytea[])
            """,
            ids=[1, 2],
            names=["a", "b"],
            bodies=[b"x", None],
        )
    assert written == 2
    assert await names(db) == ["a", "b"]


async def test_a_value_of_the_wrong_kind_is_named_and_sends_nothing(db: Database) -> None:
    async with db.transaction() as tx:
        with pytest.raises(TypeError, match="parameter 'id' cannot be a str"):
            await tx.execute("INSERT INTO things (id, name) VALUES (%(id)s, %(name)s)", id="1", name="x")
        with pytest.raises(TypeError, match="missing"):
            await tx.execute("INSERT INTO things (id, name) VALUES (%(id)s, %(name)s)", id=1, nam="x")
        with pytest.raises(TypeError, match="given"):
            await tx.execute("DELETE FROM things", id=1)
        with pytest.raises(ValueError, match="%%"):
            await tx.execute("SELECT 5 % 2")
        assert await tx.value("SELECT 5 %% 2") == 1


async def test_what_raises_is_rolled_back(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO things (id, name) VALUES (1, 'lost')")
            raise ZeroDivisionError
    assert await names(db) == []


async def test_an_error_of_the_database_ends_the_transaction_and_the_connection_goes_on(db: Database) -> None:
    await add(db, 1, "one")
    for _ in range(3):
        with pytest.raises(psycopg.errors.UniqueViolation):
            await add(db, 1, "again")
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with db.read() as tx:
            await tx.all("SELECT * FROM nothing_of_that_name")
    assert await names(db) == ["one"]
    assert db.usage == (0, 1, 0)


async def test_a_flight_is_one_round_trip_and_gives_each_its_result(db: Database) -> None:
    async with db.transaction() as tx:
        async with tx.pipeline(commit=True) as flight:
            first = flight.one("INSERT INTO things (id, name) VALUES (1, 'a') RETURNING id")
            second = flight.execute("INSERT INTO things (id, name) VALUES (2, 'b'), (3, 'c')")
            third = flight.rows(Thing, "SELECT id, name FROM things ORDER BY id")
            last = flight.all("SELECT count(*) FROM things")
        with pytest.raises(RuntimeError, match="over"):
            await tx.execute("DELETE FROM things")
    assert first.result == (1,)
    assert second.result == 2
    assert third.result[2] == Thing(3, "c")
    assert last.result == [(3,)]
    assert await names(db) == ["a", "b", "c"]


async def test_a_statement_that_fails_in_a_flight_undoes_the_whole_flight(db: Database) -> None:
    await add(db, 2, "there")
    with pytest.raises(psycopg.errors.UniqueViolation):
        async with db.transaction() as tx, tx.pipeline(commit=True) as flight:
            flight.execute("INSERT INTO things (id, name) VALUES (1, 'new')")
            flight.execute("INSERT INTO things (id, name) VALUES (2, 'double')")
            flight.execute("INSERT INTO things (id, name) VALUES (3, 'never reached')")
    assert await names(db) == ["there"]
    await add(db, 3, "the same statement, prepared anew")


async def test_an_exception_inside_a_flight_sends_nothing(db: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx, tx.pipeline() as flight:
            flight.execute("INSERT INTO things (id, name) VALUES (1, 'x')")
            raise ZeroDivisionError
    assert await names(db) == []


async def test_readers_cannot_write(db: Database) -> None:
    for sql in (
        "INSERT INTO things (id, name) VALUES (1, 'x')",
        "-- a comment\nDELETE FROM things",
        "WITH gone AS (DELETE FROM things RETURNING id) SELECT * FROM gone",
        "SELECT * FROM things FOR UPDATE",
    ):
        async with db.read() as tx:
            with pytest.raises(RuntimeError, match=r"db\.read"):
                await tx.execute(sql)  # type: ignore[arg-type]
    async with db.read() as tx:
        assert await tx.value("SELECT 'update x set' || name FROM things") is None


async def test_a_snapshot_sees_one_state(db: Database) -> None:
    await add(db, 1, "before")
    async with db.snapshot() as tx:
        assert await tx.value("SELECT count(*) FROM things") == 1
        await beside(add(db, 2, "meanwhile"))
        assert await tx.value("SELECT count(*) FROM things") == 1
    assert await names(db) == ["before", "meanwhile"]


async def test_results_and_parameters_larger_than_all_buffers_pass(db: Database) -> None:
    body = b"0123456789abcdef" * 65536 * 4
    async with db.transaction() as tx:
        async with tx.pipeline() as flight:
            for number in range(6):
                flight.execute(
                    "INSERT INTO things (id, name, body) VALUES (%(n)s, '', %(body)s)", n=number, body=body
                )
                flight.all("SELECT body FROM things")
        assert await tx.column("SELECT length(body) FROM things") == [len(body)] * 6


async def test_more_tasks_than_connections_take_turns(db: Database) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(add(db, number, "x"))
    used, idle, waiting = db.usage
    assert (used, waiting) == (0, 0)
    assert 1 <= idle <= 4
    assert len(await names(db)) == 50


async def test_a_cancelled_statement_costs_its_connection_and_nothing_else(db: Database) -> None:
    async def sleep() -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO things (id, name) VALUES (1, 'undone')")
            await tx.value("SELECT pg_sleep(30)")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await sleep()
    assert await names(db) == []
    assert db.usage == (0, 1, 0)


async def test_a_connection_the_server_closed_is_replaced(db: Database) -> None:
    async with db.read() as tx:
        pid = await tx.value("SELECT pg_backend_pid()")
    async with db.read() as tx:  # takes the same one
        with pytest.raises(psycopg.OperationalError):
            await tx.value("SELECT pg_terminate_backend(%(pid)s)", pid=pid)
    assert await names(db) == []


async def test_a_changed_table_does_not_break_prepared_statements_for_ever(db: Database) -> None:
    await add(db, 1, "one")
    async with db.read() as tx:
        await tx.all("SELECT * FROM things")
    async with db.transaction() as tx:
        await tx.execute("ALTER TABLE things ADD COLUMN more text")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        async with db.read() as tx:
            await tx.all("SELECT * FROM things")
    async with db.read() as tx:
        assert len((await tx.all("SELECT * FROM things"))[0]) == 5


async def test_statements_have_time_limits(database: str) -> None:
    async with Database(database, timeouts=Timeouts(statement=1)) as db, db.read() as tx:
        with pytest.raises(psycopg.errors.QueryCanceled):
            await tx.value("SELECT pg_sleep(30)")


async def test_a_wrong_address_is_known_at_the_start() -> None:
    with pytest.raises(psycopg.OperationalError):
        await Database("host=/nowhere dbname=x", timeouts=Timeouts(connect=1)).open()


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "a\udcff\udcfe"])
async def test_a_text_that_no_column_holds_is_refused_before_anything_is_sent(
    db: Database, text: str
) -> None:
    """Alone and in a list; the transaction goes on, and what can be stored of the text is."""
    async with db.transaction() as tx:
        with pytest.raises(UnstorableText, match="parameter 'name'") as refused:
            await tx.execute("INSERT INTO things (id, name) VALUES (1, %(name)s)", name=text)
        assert text not in str(refused.value)
        with pytest.raises(psycopg.DataError):
            await tx.all("SELECT unnest(%(names)s::text[])", names=["fine", text])
        await tx.execute("INSERT INTO things (id, name) VALUES (2, %(name)s)", name=storable(text))
    async with db.read() as tx:
        assert await tx.column("SELECT name FROM things") == [storable(text)]


def test_a_text_that_can_be_stored_is_stored_as_it_is() -> None:
    for text in ("", "Mozilla/5.0", "Ελένη 🙂"):
        assert storable(text) == text


async def test_rows_can_be_had_in_pieces_also_after_the_transaction(db: Database) -> None:
    for number in range(5):
        await add(db, number, str(number))
    async with db.read() as tx, tx.pipeline() as flight:
        ids = flight.pieces(2, "SELECT id FROM things ORDER BY id")
        none = flight.pieces(2, "SELECT id FROM things WHERE id < 0")
    found = []
    for rows in ids.result:
        found.append([number for (number,) in rows])
        assert await names(db) == list("01234"), "others use the connection meanwhile"
    assert found == [[0, 1], [2, 3], [4]]
    assert list(none.result) == []
