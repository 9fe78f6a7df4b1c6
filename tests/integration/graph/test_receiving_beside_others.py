"""An event comes from elsewhere while others write to its room."""

import asyncio
from pathlib import Path

import pytest

from homeserver.graph.refs import REJECTED
from homeserver.graph.write import receive as receiving
from tests.support.forks import Fork
from tests.support.graph import process

TEXT = {"msgtype": "m.text", "body": "from elsewhere"}


async def test_the_room_is_looked_at_anew_after_a_conflict(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of the room in this process is a second old: no number of attempts on it would do."""
    monkeypatch.setattr(receiving, "MAX_TRIES", 3)
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        alice = await one.user("alice")
        room_id = await one.room(alice)
        await two.core.tail.fresh()
        fork = await Fork.of(two, room_id)
        event = fork.branch().says(alice.user_id, "m.room.message", None, TEXT)
        for number in range(3):
            await one.send(alice, room_id, f"faster {number}")
        received = await two.core.receiver.receive(event)
        await one.core.tail.fresh()
        room = await one.core.rooms.known(room_id)
        assert received.event.event_id in {ref.event_id for ref in room.extremities}


async def test_a_room_that_left_memory_meanwhile_is_loaded_again(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        event = (await Fork.of(here, room_id)).branch().says(alice.user_id, "m.room.message", None, TEXT)
        held = await here.core.rooms.known(room_id)
        here.core.rooms.reset()
        await here.send(alice, room_id, "on the room that is loaded since")
        known = here.core.rooms.known
        looks = 0

        async def stale(asked: object) -> object:
            nonlocal looks
            looks += 1
            return held if looks == 1 else await known(asked)  # type: ignore[arg-type]  # a RoomId

        here.core.rooms.known = stale  # type: ignore[method-assign,assignment]  # for once
        received = await asyncio.wait_for(here.core.receiver.receive(event), 60)
        assert received.nid > 0


@pytest.mark.parametrize("allowed", [True, False])
async def test_an_event_that_comes_twice_at_once_is_written_once(
    database: str, tmp_path: Path, allowed: bool
) -> None:
    """Two servers send it in the same moment; one that is rejected moves nothing, so it meets no conflict."""
    async with process(database, tmp_path) as here:
        alice, eve = await here.user("alice"), await here.user("eve")
        room_id = await here.room(alice)
        sender = alice if allowed else eve
        event = (await Fork.of(here, room_id)).branch().says(sender.user_id, "m.room.message", None, TEXT)
        received = await asyncio.gather(*(here.core.receiver.receive(event) for _ in range(4)))
        assert len({each.nid for each in received}) == 1
        assert bool(received[0].flags & REJECTED) is not allowed
