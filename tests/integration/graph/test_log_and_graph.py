"""The log and the event graph on a real database: order, idempotency, conflicts, state."""

import asyncio
import json
from pathlib import Path

import psycopg
import pytest

from homeserver.matrix.errors import Forbidden
from tests.support.graph import Process, process


async def _positions(dsn: str) -> list[int]:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        rows = await (await connection.execute("SELECT event_nid FROM events ORDER BY event_nid")).fetchall()
    return [row[0] for row in rows]


async def _state(alone: Process, who: object, room_id: object) -> dict[tuple[str, str], dict[str, object]]:
    events = json.loads(await alone.rooms.reading.state(who, room_id))  # type: ignore[arg-type]  # a Requester
    return {(event["type"], event["state_key"]): event for event in events}


async def test_a_room_is_created_with_its_state_in_order(database: str, tmp_path: Path) -> None:
    """ROOM-01, ROOM-07"""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, name="Tea", topic="About tea")
        page = await here.rooms.history.messages(
            alice, room_id, start=None, stop=None, backwards=False, limit=50, wanted=_everything()
        )
        types = [json.loads(event)["type"] for event in page.chunk]
        assert types == [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "m.room.name",
            "m.room.topic",
        ]
        state = await _state(here, alice, room_id)
        assert state["m.room.name", ""]["content"] == {"name": "Tea"}
        assert await _positions(database) == list(range(1, 9))


@pytest.mark.parametrize("version", [str(number) for number in range(1, 13)])
async def test_rooms_of_every_version_work(database: str, tmp_path: Path, version: str) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, room_version=version, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        first = await here.send(bob, room_id, "one")
        second = await here.send(alice, room_id, "two")
        assert first != second
        redaction = await here.rooms.sending.redact(alice, room_id, first, "r1", {"reason": "no"})
        event = json.loads(await here.rooms.reading.event(bob, room_id, first))  # type: ignore[arg-type]  # an EventId
        assert event["content"] == {}
        assert event["unsigned"]["redacted_because"]["event_id"] == redaction


async def test_a_retried_send_never_writes_twice_even_after_a_restart(database: str, tmp_path: Path) -> None:
    """API-09"""
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        ids = await asyncio.gather(*(here.send(alice, room_id, "hi", "t1") for _ in range(5)))
        ids.append(await here.send(alice, room_id, "hi", "t1"))
    async with process(database, tmp_path) as again:
        ids.append(await again.send(alice, room_id, "hi", "t1"))
        assert len(set(ids)) == 1
        assert await again.send(alice, room_id, "hi", "t2") != ids[0]


async def test_two_processes_write_one_room_gaplessly_and_in_order(database: str, tmp_path: Path) -> None:
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        alice, bob = await one.user("alice"), await two.user("bob")
        room_id = await one.room(alice, preset="public_chat")
        await two.core.tail.fresh()
        await two.rooms.membership.join(bob, room_id)
        await one.core.tail.fresh()

        async def writer(here: Process, number: int) -> list[str]:
            who = alice if here is one else bob
            return [await here.send(who, room_id, f"{number}.{i}", f"w{number}.{i}") for i in range(25)]

        lists = await asyncio.gather(*(writer(here, n) for n, here in enumerate([one, two] * 4)))
        positions = await _positions(database)
        assert positions == list(range(1, positions[-1] + 1))
        one.core.events.clear()
        loaded = await one.core.events.load(positions)
        events = [loaded[position].event for position in positions]
        order = {str(event.event_id): number for number, event in enumerate(events)}
        before = [[order[event_id] for event_id in event.prev_event_ids] for event in events[1:]]
        assert before == [[number] for number in range(len(events) - 1)], "a line without forks"
        for sent in lists:
            assert [order[event_id] for event_id in sent] == sorted(order[event_id] for event_id in sent)
        assert one.core.rooms.cached(1).state == two.core.rooms.cached(1).state  # type: ignore[union-attr]  # loaded


async def test_a_look_at_the_log_that_failed_is_not_the_last_one(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request to one of several processes begins with such a look: none would be answered any more."""
    async with process(database, tmp_path, alone=False) as here:

        def away(**_: object) -> None:
            raise psycopg.OperationalError("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(here.core.db, "read", away)
            for _ in range(2):
                with pytest.raises(psycopg.OperationalError):
                    await here.core.tail.fresh()
        await asyncio.gather(*(here.core.tail.fresh() for _ in range(3)))


async def test_who_is_not_in_the_room_can_neither_write_nor_read(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, eve = await here.user("alice"), await here.user("eve")
        room_id = await here.room(alice)
        with pytest.raises(Forbidden):
            await here.send(eve, room_id, "hi")
        with pytest.raises(Forbidden):
            await here.rooms.reading.state(eve, room_id)
        with pytest.raises(Forbidden):
            await here.rooms.membership.join(eve, room_id)


async def test_a_room_is_the_same_when_it_is_loaded_again(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, name="a", invite=[bob.user_id])
        await here.rooms.membership.join(bob, room_id)
        await here.rooms.sending.put_state(alice, room_id, ("m.room.name", ""), {"name": "b"})
        room = await here.core.rooms.known(room_id)
        here.core.rooms.reset()
        again = await here.core.rooms.known(room_id)
        assert again is not room
        assert again.state == room.state
        assert again.members == room.members
        assert again.room_state.nid == room.room_state.nid
        assert [ref.nid for ref in again.extremities] == [ref.nid for ref in room.extremities]
        by_chain = await here.core.states.load(room.room_state.nid)
        assert sorted(by_chain.values()) == sorted(room.state.values())
        await here.send(bob, room_id, "goes on")


def _everything() -> object:
    from homeserver.events.filtering import RoomEventFilter

    return RoomEventFilter()
