"""A database belongs to the server that used it first: its name is in every identifier."""

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest

from homeserver.storage import owner
from homeserver.storage.database import Database
from homeserver.storage.migrate import FOLDER
from tests.support import server as support_server

KEY = owner.PublicKey("ed25519:a_1", b"k" * 32)


async def test_the_first_name_is_noted_and_another_refused(database: str) -> None:
    async with Database(database, size=2) as db:
        await owner.settle(db, "example.com", KEY)
        await owner.settle(db, "example.com", KEY)
        with pytest.raises(owner.OtherServer, match=r"the server example\.com, .*server\.name: example\.com"):
            await owner.settle(db, "example.org", KEY)


async def test_of_two_that_begin_at_once_one_is_refused(database: str) -> None:
    async with Database(database, size=4) as db:
        done = await asyncio.gather(
            *(owner.settle(db, name, KEY) for name in ("a.b", "c.d") * 4), return_exceptions=True
        )
    refused = [each for each in done if isinstance(each, owner.OtherServer)]
    assert len(refused) == 4
    assert sum(each is None for each in done) == 4


async def test_a_server_of_another_name_does_not_start(database: str, tmp_path: Path) -> None:
    async with support_server.run(database, tmp_path) as server:
        await server.register("alice")
    with pytest.raises(owner.OtherServer):
        async with support_server.run(database, tmp_path, server={"name": "other.example"}):
            pass
    async with support_server.run(database, tmp_path):
        pass


def test_a_database_from_before_is_known_by_its_accounts(postgres: Any, worker: str, database: str) -> None:
    """The migration takes the name of the oldest account's server."""
    fill = (FOLDER / "0072-server-name.sql").read_text().split("INSERT INTO", 1)[1]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (user_id) VALUES ('@bob:elsewhere.example'), ('@alice:a.b:8448')"
        )
        connection.execute(
            "INSERT INTO accounts (user_nid, created_ms) SELECT user_nid, 1 FROM users WHERE user_id LIKE '@alice%'"
        )
        connection.execute("INSERT INTO" + fill)  # type: ignore[arg-type]  # our own file
        assert connection.execute("SELECT name FROM server_name").fetchall() == [("a.b:8448",)]


@pytest.mark.parametrize("other", [("ed25519:a_2", b"k" * 32), ("ed25519:a_1", b"l" * 32)])
async def test_the_first_key_is_noted_and_another_refused(database: str, other: tuple[str, bytes]) -> None:
    """Two hosts with a key each would sign for one server."""
    async with Database(database, size=2) as db:
        await owner.settle(db, "example.com", KEY)
        with pytest.raises(owner.OtherKey, match=r"signs with the key ed25519:a_1; .*signing-key accept"):
            await owner.settle(db, "example.com", owner.PublicKey(*other))
        await owner.change_key(db, "example.com", owner.PublicKey(*other))
        await owner.settle(db, "example.com", owner.PublicKey(*other))
        with pytest.raises(owner.OtherServer):
            await owner.change_key(db, "example.org", KEY)


async def test_of_two_hosts_that_begin_at_once_one_key_is_refused(database: str) -> None:
    keys = [owner.PublicKey(f"ed25519:a_{number}", bytes([number]) * 32) for number in (1, 2)]
    async with Database(database, size=4) as db:
        done = await asyncio.gather(
            *(owner.settle(db, "a.b", key) for key in keys * 4), return_exceptions=True
        )
    assert sum(isinstance(each, owner.OtherKey) for each in done) == 4
    assert sum(each is None for each in done) == 4


async def test_a_database_from_before_keys_were_noted_takes_the_next(database: str) -> None:
    async with Database(database, size=2) as db:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO server_name (name) VALUES ('a.b')")
        with pytest.raises(owner.OtherServer):
            await owner.settle(db, "c.d", KEY)
        await owner.settle(db, "a.b", KEY)
        async with db.read() as tx:
            assert await owner.find(tx) == ("a.b", KEY)


async def test_two_hosts_of_one_database_need_the_same_key(database: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with support_server.run(database, tmp_path, database={"shared": True}):
        with pytest.raises(owner.OtherKey):
            async with support_server.run(database, tmp_path / "other", database={"shared": True}):
                pass
