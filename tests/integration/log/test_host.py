"""Processes of one host: one of them writes for all, and tells the others what is written."""

import asyncio
import contextlib
import fcntl
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from homeserver.log.host.frames import FrameReader, Hello, News, to_bytes
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import RoomId
from homeserver.runtime.shared_positions import PATH, SharedPositions, begin
from homeserver.web.auth import Requester
from tests.support.forks import Fork
from tests.support.graph import Process, process
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def two_of_a_host(database: str, folder: Path) -> AsyncIterator[tuple[Process, Process]]:
    """The first leads."""
    async with (
        process(database, folder, alone=False, place=0) as one,
        process(database, folder, alone=False, place=1) as two,
    ):
        assert one.host is not None
        assert two.host is not None
        assert one.host.leads
        assert two.host.told
        yield one, two


async def shared_room(one: Process, two: Process) -> tuple[Requester, Requester, RoomId]:
    """Alice is at the first process, Bob at the second."""
    alice, bob = await one.user("alice"), await two.user("bob")
    room_id = await one.room(alice, preset="public_chat")
    await two.core.tail.fresh()
    await two.rooms.membership.join(bob, room_id)
    await one.core.tail.fresh()
    return alice, bob, room_id


class Transactions:
    """Counts those in which a process wrote to the log."""

    def __init__(self, here: Process) -> None:
        self.count = 0
        self._inner = here.core.log._transaction
        here.core.log._transaction = self  # type: ignore[method-assign,assignment]  # looked at

    async def __call__(self, appends: Any) -> Any:
        self.count += 1
        return await self._inner(appends)


async def test_one_process_writes_what_the_other_is_asked_and_a_room_stays_a_line(
    database: str, tmp_path: Path
) -> None:
    async with two_of_a_host(database, tmp_path) as (one, two):
        alice, bob, room_id = await shared_room(one, two)
        written = Transactions(two)

        async def speak(here: Process, who: Requester, number: int) -> list[str]:
            return [await here.send(who, room_id, f"{number}.{i}", f"w{number}.{i}") for i in range(20)]

        said = await asyncio.gather(
            *(speak(here, who, n) for n, (here, who) in enumerate([(one, alice), (two, bob)] * 4))
        )
        assert written.count == 0
        for here in (one, two):
            await here.core.tail.fresh()
            room = await here.core.rooms.known(room_id)
            assert room.idle
            assert len(room.extremities) == 1
        async with await psycopg.AsyncConnection.connect(database) as connection:
            query = "SELECT array_agg(position ORDER BY position) FROM log_feed"
            row = await (await connection.execute(query)).fetchone()
        assert row is not None
        assert row[0] == list(range(1, row[0][-1] + 1))
        for here in (one, two):
            here.core.events.clear()
        events = [each.event for _, each in sorted((await one.core.events.load(row[0])).items())]
        assert [event.prev_event_ids for event in events[1:]] == [(event.event_id,) for event in events[:-1]]
        order = {event.event_id: number for number, event in enumerate(events)}
        for ids in said:
            assert [order[event_id] for event_id in ids] == sorted(order[event_id] for event_id in ids)


async def test_what_one_has_answered_the_other_knows_without_asking_the_database(
    database: str, tmp_path: Path
) -> None:
    async with two_of_a_host(database, tmp_path) as (one, two):
        alice, bob, room_id = await shared_room(one, two)
        for here, who, other in ((one, alice, two), (two, bob, one)) * 5:
            await here.send(who, room_id, "hi")
            position = here.core.tail.position
            reads = asked(other)
            await other.core.tail.fresh()
            assert other.core.tail.position >= position
            assert reads == []


def asked(here: Process) -> list[str]:
    """What the process asks the database from now on."""
    found: list[str] = []
    inner = here.core.db._acquire

    async def acquire(**wish: Any) -> Any:
        found.append("a connection")
        return await inner(**wish)

    here.core.db._acquire = acquire  # type: ignore[method-assign]  # looked at
    return found


async def test_state_that_both_change_at_once_is_decided_and_nobody_is_turned_away(
    database: str, tmp_path: Path
) -> None:
    async with two_of_a_host(database, tmp_path) as (one, two):
        alice, _, room_id = await shared_room(one, two)

        async def rename(here: Process, number: int) -> None:
            await here.rooms.sending.put_state(alice, room_id, ("m.room.topic", ""), {"topic": f"{number}"})

        await asyncio.gather(*(rename(here, n) for n, here in enumerate([one, two] * 6)))
        for here in (one, two):
            await here.core.tail.fresh()
        rooms = [await here.core.rooms.known(room_id) for here in (one, two)]
        assert rooms[0].state == rooms[1].state
        assert [len(room.extremities) for room in rooms] == [1, 1]


async def leads(here: Process) -> bool:
    return here.host is not None and here.host.leads


async def test_when_the_leader_goes_the_other_writes_itself_and_leads(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path, alone=False, place=1) as _:
        pass  # leaves its files behind
    async with contextlib.AsyncExitStack() as leading:
        one = await leading.enter_async_context(process(database, tmp_path, alone=False, place=0))
        async with process(database, tmp_path, alone=False, place=1) as two:
            assert two.host is not None
            _, bob, room_id = await shared_room(one, two)
            sending = asyncio.gather(*(two.send(bob, room_id, f"{n}", f"t{n}") for n in range(50)))
            await asyncio.sleep(0)
            await leading.aclose()
            ids = await sending
            assert len(set(ids)) == 50
            await until(partial(leads, two))
            await two.send(bob, room_id, "alone")
            found = await two.core.events.numbers(ids)  # type: ignore[arg-type]  # event ids
            assert len(found) == 50


async def test_beside_a_leader_that_hangs_a_process_begins_and_writes_by_itself(
    database: str, tmp_path: Path
) -> None:
    folder = tmp_path / PATH.parent
    folder.mkdir(parents=True)
    with (folder / "leader.lock").open("w") as lock, socket.socket(socket.AF_UNIX) as hangs:
        fcntl.flock(lock, fcntl.LOCK_EX)
        hangs.bind(str(folder / "leader.sock"))
        hangs.listen()
        async with process(database, tmp_path, alone=False, place=1) as two:
            assert two.host is not None
            assert not two.host.told
            alice = await two.user("alice")
            assert await two.send(alice, await two.room(alice), "hi")
            hangs.close()
            lock.close()
            await until(partial(leads, two))


async def test_a_retried_request_is_one_request_at_whichever_process(database: str, tmp_path: Path) -> None:
    """API-09: also where both processes are asked at once, and the two stand in one batch."""
    async with two_of_a_host(database, tmp_path) as (one, two):
        _, bob, room_id = await shared_room(one, two)
        for number in range(20):
            body = f"once {number}"
            first = await asyncio.gather(
                *(here.send(bob, room_id, body, f"t{number}") for here in (two, one, two))
            )
            assert len(set(first)) == 1


async def test_an_event_of_another_server_stays_as_it_was_signed(database: str, tmp_path: Path) -> None:
    """It comes at both processes in the same moment, while others speak."""
    async with two_of_a_host(database, tmp_path) as (one, two):
        alice, bob, room_id = await shared_room(one, two)
        event = (
            (await Fork.of(one, room_id)).branch().says(alice.user_id, "m.room.message", None, {"body": "x"})
        )
        received, *_ = await asyncio.gather(
            asyncio.gather(*(here.core.receiver.receive(event) for here in (one, two, two))),
            *(here.send(who, room_id, f"{n}") for n in range(3) for here, who in ((one, alice), (two, bob))),
        )
        assert len({each.nid for each in received}) == 1
        assert {each.event.pdu for each in received} == {event.pdu}


async def test_refusals_are_heard_where_the_request_came_in(database: str, tmp_path: Path) -> None:
    async with two_of_a_host(database, tmp_path) as (one, two):
        alice, bob, room_id = await shared_room(one, two)
        del alice, bob
        with pytest.raises(MatrixError):
            await two.send(await two.user("mallory"), room_id, "let me in")


def test_frames_come_whole_however_they_are_cut() -> None:
    frames = [
        Hello(1, "db", b"12345678", 7),
        News(3, [("word", b"x" * 1000, b""), ("word", None, b"o" * 18)]),
    ]
    data = b"".join(map(to_bytes, frames))
    for size in (1, 7, 1000, len(data)):
        reader = FrameReader()
        found = [
            frame for start in range(0, len(data), size) for frame in reader.feed(data[start : start + size])
        ]
        assert found == frames


def test_positions_are_shared_and_forgotten_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "run" / "positions"
    begin(path)
    one, two = SharedPositions(path, 0), SharedPositions(path, 63)
    one.note(5)
    two.note(1 << 40)
    assert one.newest() == two.newest() == 1 << 40
    begin(path)
    fresh = SharedPositions(path, 0)
    assert fresh.newest() == 0
    for each in (one, two, fresh):
        each.close()


async def test_a_process_where_nobody_waits_hears_of_all_a_moment_later(
    database: str, tmp_path: Path
) -> None:
    async with two_of_a_host(database, tmp_path) as (one, two):
        alice, _, room_id = await shared_room(one, two)
        assert two.host is not None
        link = two.host._link
        assert link is not None
        link._attentive = lambda: False
        await one.send(alice, room_id, "first")
        await asyncio.sleep(0.005)
        for number in range(5):
            await one.send(alice, room_id, f"more {number}")

        async def there() -> bool:
            return two.core.tail.position == one.core.tail.position

        await until(there)
        await one.send(alice, room_id, "asked for")
        await two.core.tail.fresh()
        assert await there()
