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


async def test_the_first_name_is_noted_and_another_refused(database: str) -> None:
    async with Database(database, size=2) as db:
        await owner.settle(db, "example.com")
        await owner.settle(db, "example.com")
        with pytest.raises(owner.OtherServer, match=r"the server example\.com, .*server\.name: example\.com"):
            await owner.settle(db, "example.org")


async def test_of_two_that_begin_at_once_one_is_refused(database: str) -> None:
    async with Database(database, size=4) as db:
        done = await asyncio.gather(
            *(owner.settle(db, name) for name in ("a.b", "c.d") * 4), return_exceptions=True
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
