"""State at any event: deltas, merged logarithmically, always the same state."""

import random
from pathlib import Path

import psycopg

from homeserver.graph import compaction, states
from tests.support.graph import process


async def _hops(dsn: str, state_nid: int) -> int:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = await connection.execute(
            """
            WITH RECURSIVE chain AS (
                SELECT parent FROM state WHERE state_nid = %s
                UNION ALL SELECT s.parent FROM chain c JOIN state s ON s.state_nid = c.parent)
            SELECT count(*) FROM chain
            """,
            (state_nid,),
        )
        row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


async def test_every_state_stays_what_it_was_and_is_read_in_few_hops(database: str, tmp_path: Path) -> None:
    chance = random.Random(3)  # reproducible
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        room = await here.core.rooms.known(room_id)
        expected: dict[int, list[int]] = {}
        for number in range(600):
            key = ("org.example.note", str(chance.randrange(40)))
            await here.rooms.sending.put_state(alice, room_id, key, {"n": number})
            if number % 7 == 0:
                expected[room.room_state.nid] = sorted(room.state.values())
            if number == 300:
                await here.core.compaction.drain()  # half behind the writer, half by the sweep
                here.core.compaction._due.clear()  # as if the process had ended
        here.core.compaction._due.clear()  # likewise
        while await compaction.sweep(here.core.db):
            pass
        fresh = states.StateStore(here.core.db)
        for state_nid, events in expected.items():
            assert sorted((await fresh.load(state_nid)).values()) == events
        assert await _hops(database, room.room_state.nid) < 4 * states.STEP


async def test_single_values_are_found_wherever_in_the_chain_they_were_set(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, name="first")
        room = await here.core.rooms.known(room_id)
        nids = {}
        for number in range(50):
            await here.rooms.sending.put_state(alice, room_id, ("m.room.topic", ""), {"topic": str(number)})
            nids[room.room_state.nid] = room.state["m.room.topic", ""]
        keys = await here.core.interning.find_key_nids([("m.room.topic", ""), ("m.room.name", "")])
        values = await states.StateStore(here.core.db).values(list(nids), list(keys.values()))
        for state_nid, topic in nids.items():
            assert values[state_nid][keys["m.room.topic", ""]] == topic
            assert values[state_nid][keys["m.room.name", ""]] == room.state["m.room.name", ""]
