"""Connections of sliding sync over processes and restarts, and what they cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeserver.devices.types import DeviceChange
from homeserver.matrix.ids import DeviceId, RoomId
from homeserver.storage.database import Database
from homeserver.sync.sliding import connections, rooms
from homeserver.sync.sliding.connection import UnknownPos
from homeserver.sync.sliding.request import SlidingRequest
from homeserver.sync.sliding.service import Asked
from homeserver.web.auth import Requester
from tests.support.graph import Process, process

LIST = {"ranges": [[0, 99]], "timeline_limit": 5, "required_state": [["m.room.member", "$LAZY"]]}


async def sync(here: Process, who: Requester, pos: str | None = None, **body: Any) -> dict[str, Any]:
    await here.core.tail.fresh()
    request = msgspec.convert({"lists": {"all": LIST}, **body}, SlidingRequest)
    answer = await here.sliding.service.sync(who, Asked(request, pos, 0, "offline"))
    found: dict[str, Any] = msgspec.json.decode(answer)
    return found


def bodies(answer: dict[str, Any], room_id: RoomId) -> list[str]:
    return [event["content"]["body"] for event in answer["rooms"][room_id]["timeline"]]


@contextlib.contextmanager
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of the database."""
    found: list[str] = []
    with monkeypatch.context() as patch:
        for name in ("read", "snapshot", "transaction"):
            before = getattr(Database, name)

            def counting(self: Database, *args: Any, _before: Any = before, _name: str = name) -> Any:
                found.append(_name)
                return _before(self, *args)

            patch.setattr(Database, name, counting)
        yield found


async def test_any_process_goes_on_with_a_connection_and_one_started_later(
    database: str, tmp_path: Path
) -> None:
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        alice = await one.user("alice")
        room_id = await one.room(alice, preset="public_chat")
        first = await sync(one, alice)
        assert first["rooms"][room_id]["initial"] is True
        await one.send(alice, room_id, "a")
        second = await sync(two, alice, first["pos"])
        assert bodies(second, room_id) == ["a"]
        again = await sync(one, alice, first["pos"])
        assert bodies(again, room_id) == ["a"]
        await two.send(alice, room_id, "b")
        third = await sync(one, alice, second["pos"])
        assert bodies(third, room_id) == ["b"]
    async with process(database, tmp_path) as later:
        assert (await sync(later, alice, third["pos"]))["rooms"] == {}
        await later.send(alice, room_id, "c")
        assert bodies(await sync(later, alice, third["pos"]), room_id) == ["c"]


async def test_idle_and_busy_answers_ask_nothing_of_the_database(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        ids = [await here.room(alice, preset="public_chat", name=f"{n}") for n in range(5)]
        extensions = {name: {"enabled": True} for name in ("account_data", "receipts", "typing")}
        pos = (await sync(here, alice, extensions=extensions))["pos"]
        for _ in range(2):
            await here.send(alice, ids[0], "warm")
            pos = (await sync(here, alice, pos, extensions=extensions))["pos"]
        await here.send(alice, ids[0], "x")
        with asked(monkeypatch) as queries:
            answer = await sync(here, alice, pos, extensions=extensions)
            assert bodies(answer, ids[0]) == ["x"]
            assert queries == []
            await sync(here, alice, answer["pos"], extensions=extensions)
            assert queries == []
        version = pos.partition("~")[2]
        assert answer["pos"].endswith(version)  # nothing was written


async def test_a_connection_that_was_lost_begins_again(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        await here.room(alice)
        pos = (await sync(here, alice))["pos"]
        async with here.core.db.transaction() as tx:
            await tx.execute("DELETE FROM sliding_connections")
        assert (await sync(here, alice, pos))["rooms"] == {}  # in memory
    async with process(database, tmp_path) as later:
        with pytest.raises(UnknownPos):
            await sync(later, alice, pos)


async def test_connections_are_bounded_and_end_with_their_device(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        await here.room(alice)
        for number in range(6):
            await sync(here, alice, conn_id=str(number))
        count = "SELECT count(DISTINCT conn_id) FROM sliding_connections"
        async with here.core.db.read() as tx:
            assert await tx.value(count) == 3
        pos = (await sync(here, alice))["pos"]
        for number in range(8):  # other limits: other states
            wanted = {"all": {**LIST, "timeline_limit": 6 + number}}
            await sync(here, alice, pos, lists=wanted)
        async with here.core.db.read() as tx:
            assert await tx.value("SELECT count(*) FROM sliding_connections WHERE conn_id = ''") <= 4
        change = DeviceChange(alice.user_nid, alice.user_id, [DeviceId("D")])
        async with here.core.db.transaction() as tx, tx.pipeline() as batch:
            here.sliding.connections.on_devices_deleted(batch, change, [])
        async with here.core.db.read() as tx:
            assert await tx.value(count) == 0


async def test_old_connections_are_cleaned_away(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        await sync(here, alice)
        await here.sliding.connections.clean()
        async with here.core.db.read() as tx:
            assert await tx.value("SELECT count(*) FROM sliding_connections") == 1
        monkeypatch.setattr(connections, "KEPT_MS", -1_000)
        await here.sliding.connections.clean()
        async with here.core.db.read() as tx:
            assert await tx.value("SELECT count(*) FROM sliding_connections") == 0


async def test_more_rooms_than_fit_come_in_several_answers(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MAX_NEW", 2)
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        ids = {await here.room(alice) for _ in range(5)}
        told: list[str] = []
        pos: str | None = None
        for size in (2, 2, 1, 0):
            answer = await sync(here, alice, pos)
            assert len(answer["rooms"]) == size
            told += answer["rooms"]
            pos = answer["pos"]
        assert set(told) == ids
        assert len(told) == 5


async def test_rooms_far_behind_are_told_anew(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MAX_GROUPS", 1)
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        ids = [await here.room(alice) for _ in range(3)]
        first = await sync(here, alice)
        nothing = {"all": {**LIST, "filters": {"is_invite": True}}}
        pos = first["pos"]
        for room_id in ids[:2]:
            await here.send(alice, room_id, "x")
            pos = (await sync(here, alice, pos, lists=nothing))["pos"]
        back = (await sync(here, alice, pos))["rooms"]
        assert set(back) == set(ids[:2])
        assert back[ids[0]].get("initial") is True
        assert back[ids[1]].get("initial") is None
