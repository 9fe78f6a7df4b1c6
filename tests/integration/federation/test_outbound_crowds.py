"""Many destinations, most of them away, and several processes: what it costs, and that nothing is lost."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from federation.ports import Ask, Unreachable
from homeserver.log.readers.types import Backoff
from homeserver.matrix.ids import ServerName
from tests.support.graph import Process, process
from tests.support.outbound import Others, join, numbered, runs, sending, until

PUBLIC = {"preset": "public_chat"}


class Counting(Others):
    """Counts and keeps nothing: what it costs is the sender's."""

    def __init__(self) -> None:
        super().__init__()
        self.events: dict[str, int] = {}
        self.attempts = 0

    async def ask(self, destination: ServerName, ask: Ask, answer: type[Any]) -> Any:
        self.attempts += 1
        if destination in self.away:
            raise Unreachable(destination, "no answer in time")
        assert isinstance(ask.content, msgspec.Raw)
        body = bytes(ask.content)
        await asyncio.sleep(0)
        self.events[destination] = self.events.get(destination, 0) + body.count(b'"auth_events"')
        return {"pdus": {}}


async def populate(here: Process, servers: int) -> Any:
    """A public room with a user of each of so many servers, by way of the tables: (who, room)."""
    alice = await here.user("alice")
    room_id = await here.room(alice, **PUBLIC)
    name = await here.core.interning.room(room_id)
    assert name is not None
    async with here.core.db.transaction() as tx:
        await tx.execute(
            """
            WITH who AS (
                INSERT INTO users (user_id) SELECT '@x:dead' || n || '.example' FROM generate_series(1, %(count)s::int) n
                RETURNING user_nid, user_id
            ), keys AS (
                INSERT INTO event_keys (type, state_key) SELECT 'm.room.member', user_id FROM who
                RETURNING key_nid, state_key
            )
            INSERT INTO current_state (room_nid, event_nid, user_nid, key_nid, membership)
            SELECT %(room)s, 1, user_nid, key_nid, 1 FROM who JOIN keys ON state_key = user_id
            """,
            count=servers,
            room=name.nid,
        )
    here.core.rooms.reset()
    return alice, room_id


async def test_every_one_of_a_thousand_events_reaches_twenty_servers(database: str, tmp_path: Path) -> None:
    others = Counting()
    servers = [f"s{n}" for n in range(20)]
    async with process(database, tmp_path) as here, sending(here, others) as sender:
        alice = await here.user("alice")
        room_id = await here.room(alice, **PUBLIC)
        await join(here, room_id, *(f"@x:{server}" for server in servers))
        await runs(sender)
        for start in range(0, 1_000, 50):
            await asyncio.gather(*(here.send(alice, room_id, f"m{start + n}") for n in range(50)))
        await until(lambda: all(others.events.get(server) == 1_000 for server in servers))


async def test_five_thousand_servers_that_are_away_cost_next_to_nothing(
    database: str, tmp_path: Path
) -> None:
    """Nothing is kept for them, and a message is not told to each of them again."""
    others = Counting()
    others.away = {f"dead{n}.example" for n in range(1, 5_001)}
    pauses = Backoff(first=600.0, longest=3_600.0)
    async with process(database, tmp_path) as here, sending(here, others, backoff=pauses) as sender:
        alice, room_id = await populate(here, 5_000)
        sender.outbound.servers.reset()
        await runs(sender)
        runner = sender.readers.runners["federation"]
        await here.send(alice, room_id, "m0")
        await until(lambda: len(runner._behind) == 5_000, 120)
        await asyncio.sleep(2.0)
        assert runner._kept == 0, "no event is kept for who is away"
        alone = await here.room(alice)
        tried = others.attempts
        measured = [
            (await cpu_of_messages(here, alice, room_id), await cpu_of_messages(here, alice, alone))
            for _ in range(3)
        ]
        among, without = map(min, zip(*measured, strict=True))  # whatever else the process does costs as well
        assert others.attempts == tried
        assert among < without * 2 + 0.05, (among, without)
        assert runner._kept == 0


async def cpu_of_messages(here: Process, sender: Any, room_id: Any) -> float:
    """Seconds for a hundred messages, after a first one."""
    await here.send(sender, room_id, "first")
    await asyncio.sleep(0.5)
    before = time.process_time()
    for number in range(100):
        await here.send(sender, room_id, f"m{number}")
    return time.process_time() - before


async def test_another_process_goes_on_where_one_was_killed(database: str, tmp_path: Path) -> None:
    """Nothing is lost, and no id has two contents."""
    others = Others()
    dying = asyncio.Event()
    async with process(database, tmp_path, alone=False) as one:
        alice = await one.user("alice")
        room_id = await one.room(alice, **PUBLIC)
        await join(one, room_id, "@bob:two", "@carol:three")
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(sending(one, others))
            await runs(first)
            second = await stack.enter_async_context(process(database, tmp_path / "b", alone=False))
            heir = await stack.enter_async_context(sending(second, others))

            async def talk() -> None:
                for number in range(120):
                    await second.send(alice, room_id, f"m{number}")
                    if number == 60:
                        dying.set()

            talking = asyncio.create_task(talk())
            await dying.wait()
            await first.die()
            await talking
            await runs(heir)
            await until(lambda: others.texts("two")[-1:] == others.texts("three")[-1:] == ["m119"])
        for server in ("two", "three"):
            texts = others.texts(server)
            assert list(dict.fromkeys(texts)) == numbered(0, 120), "all, the first time in order"
            assert len(texts) < 120 + 51, "at most what was under way comes again"
    others.check_contents()
