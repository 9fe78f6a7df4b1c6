"""A server that goes on from a backup: what was written after the backup is lost, nothing that comes later is.

The backup is a copy of the database, made while nobody writes, as a snapshot of the disk would be.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeserver.log.restore import JUMP, Break, Breaks, break_off
from homeserver.storage.database import Database
from tests.support import server as support_server
from tests.support.crypto import DeviceCrypto, changed_in, in_encrypted_room
from tests.support.postgres import Postgres
from tests.support.server import Server
from tests.support.user import User


@pytest.fixture
def databases(postgres: Postgres, worker: str, migrated_template: str) -> Any:
    """(the original, the name of the backup)"""
    original, backup = f"restore_{worker}", f"backup_{worker}"
    yield postgres.create(original, template=migrated_template), backup
    postgres.drop(original)
    postgres.drop(backup)


@asynccontextmanager
async def again(dsn: str, folder: Path, *known: User) -> AsyncIterator[list[User]]:
    """The homeserver on this database, and the same people with the access tokens they had."""
    async with support_server.run(dsn, folder) as running:
        yield [replace(user, client=running.client) for user in known]


def texts(reply: dict[str, Any], room: str) -> list[str]:
    events = reply.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {}).get("events", [])
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


async def test_clients_miss_nothing_that_is_written_after_a_restore(
    postgres: Postgres, worker: str, databases: tuple[str, str], tmp_path: Path
) -> None:
    dsn, backup = databases
    async with support_server.run(dsn, tmp_path) as server:
        alice, bob = await server.register("alice"), await server.register("bob")
        room = await in_encrypted_room(alice, bob)
        await alice.send(room, "kept")
        before = (await bob.sync())["next_batch"]
    backup_dsn = postgres.create(backup, template=f"restore_{worker}")
    async with again(dsn, tmp_path, alice, bob) as (alice, bob):
        for number in range(5):
            await alice.send(room, f"lost {number}")
        lost = (await bob.sync())["next_batch"]

    async with Database(backup_dsn, size=2) as db:
        made = await break_off(db)
    assert made.upto == made.after + JUMP
    async with again(backup_dsn, tmp_path, alice, bob) as (alice, bob):
        await alice.send(room, "new")
        await DeviceCrypto(alice).upload(1)
        replies = [await bob.sync(since=token) for token in (before, lost)]
        for reply in replies:
            assert texts(reply, room) == ["new"]
            assert alice.user_id in changed_in(reply)
        # A token from the stretch cut off brings the rooms whole: the client's may be of that stretch.
        assert "m.room.create" in {e["type"] for e in replies[1]["rooms"]["join"][room]["state"]["events"]}
        since = replies[1]["next_batch"]
        assert "rooms" not in await bob.sync(since=since)
        await alice.send(room, "newer")
        assert texts(await bob.sync(since=since), room) == ["newer"]
        page = await bob.get("/rooms/{}/messages", room, params={"dir": "b", "from": since})
        assert [e["content"]["body"] for e in page["chunk"] if e["type"] == "m.room.message"] == [
            "new",
            "kept",
        ]


async def test_a_running_server_hears_of_the_break(fresh_server: Server) -> None:
    """It should not run then; but it must not give wrong answers if it does."""
    alice = await fresh_server.register("alice")
    room = await alice.create_room()
    since = (await alice.sync())["next_batch"]
    async with Database(fresh_server.dsn, size=2) as db:
        await break_off(db)
    await alice.send(room, "after")
    assert texts(await alice.sync(since=since), room) == ["after"]


def test_a_position_is_lost_between_the_backup_and_the_jump() -> None:
    breaks = Breaks([Break(100, 1000), Break(2000, 3000)])
    assert [breaks.lost(p) for p in (0, 100, 101, 999, 1000, 1500, 2000, 2001, 2999, 3000, 4000)] == [
        None, None, 100, 100, None, None, None, 2000, 2000, None, None,
    ]  # fmt: skip
    assert Breaks().lost(5) is None
