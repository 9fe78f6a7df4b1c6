"""Many writers at once, while the process hears of its own writes: nobody is turned away, nothing is written twice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from homeserver.log.tail import Tail
from homeserver.matrix.errors import MatrixError
from homeserver.storage.listen import listen
from tests.support.graph import Process, process

SENDERS, EACH = 10, 20


@contextlib.asynccontextmanager
async def hears(here: Process, database: str) -> AsyncIterator[None]:
    """The announcements of the log reach the process, as they do while it serves."""

    async def follow() -> None:
        async for _, position in listen(database, "atrium_log"):
            here.core.tail.hint(int(position) if position else None)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def count_builds(here: Process) -> list[int]:
    """How often events were built, from now on: one number, which grows."""
    builds = [0]
    build = here.core.graph._build

    def counting(*arguments: object) -> object:
        builds[0] += 1
        return build(*arguments)  # type: ignore[arg-type]  # as given

    here.core.graph._build = counting  # type: ignore[method-assign,assignment]  # counts, and passes on
    return builds


async def test_ten_people_speak_at_once_and_no_event_has_to_be_built_twice(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path, alone=False) as here, hears(here, database):
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat")
        builds = count_builds(here)

        async def speak(number: int) -> None:
            for message in range(EACH):
                await here.send(alice, room_id, f"{number}.{message}")

        await asyncio.gather(*(speak(number) for number in range(SENDERS)))
        assert builds == [SENDERS * EACH]


async def test_a_feed_that_is_quicker_than_the_writer_brings_the_writers_own_entries(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The announcement of a commit may arrive before the writer hears that it is done."""
    publish = Tail.publish

    async def late(self: Tail, written: object) -> None:
        await self._catch_up()
        await publish(self, written)  # type: ignore[arg-type]  # as given

    monkeypatch.setattr(Tail, "publish", late)
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        await asyncio.gather(*(here.send(alice, room_id, str(number)) for number in range(30)))
        room = await here.core.rooms.known(room_id)
        assert room.idle
        assert room.last_event == 36


async def test_who_loses_is_built_again_once_while_nobody_else_can_write(
    database: str, tmp_path: Path
) -> None:
    """Two processes, one room: nobody waits for a chance that a busier process takes again and again."""
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        alice, bob = await one.user("alice"), await two.user("bob")
        room_id = await one.room(alice, preset="public_chat")
        await two.core.tail.fresh()
        await two.rooms.membership.join(bob, room_id)
        await one.core.tail.fresh()
        builds = [count_builds(here) for here in (one, two)]

        async def speak(here: Process, number: int) -> None:
            for message in range(10):
                await here.send(alice if here is one else bob, room_id, f"{number}.{message}")

        try:
            await asyncio.gather(*(speak(here, n) for n, here in enumerate([one, two] * 10)))
        except MatrixError as refused:
            pytest.fail(f"somebody was turned away: {refused}")
        assert all(100 <= built[0] <= 200 for built in builds)
        await asyncio.gather(one.core.tail.fresh(), two.core.tail.fresh())
        rooms = [await here.core.rooms.known(room_id) for here in (one, two)]
        assert all(room.idle for room in rooms)
        assert len({room.extremities[0].event_id for room in rooms}) == 1
        assert len(rooms[0].extremities) == 1


async def test_one_user_makes_many_rooms_in_the_same_millisecond(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as one, process(database, tmp_path) as two:
        alice = await one.user("alice")
        rooms = await asyncio.gather(*(here.room(alice) for here in [one, two] * 10))
        assert len(set(rooms)) == 20
