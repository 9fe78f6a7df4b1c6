"""State at any event: deltas that follow from events, shortcuts at round heights, always the same state."""

import random
from pathlib import Path

import psycopg
import pytest

from homeserver.graph.refs import REJECTED
from homeserver.graph.state.rows import BrokenState, StateMap, max_hops, read_chain, read_state
from homeserver.graph.state.states import Difference, StateStore
from homeserver.graph.state.upkeep import StateUpkeep
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId
from homeserver.runtime.cache import MemoryBudget
from tests.support.graph import Process, process

TOPIC = ("m.room.topic", "")


async def _hops(here: Process, state_nid: int) -> tuple[int, int]:
    """How many links the chain of a state has, and its height."""
    height = (await StateStore(here.core.db, MemoryBudget(1 << 30)).heights([state_nid]))[state_nid]
    async with here.core.db.read() as tx:
        return len(await read_chain(tx, state_nid, height)), height


async def _count(dsn: str) -> int:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute("SELECT count(*) FROM state")).fetchone()
    assert row is not None
    return int(row[0])


async def _notes(here: Process, room_id: RoomId, count: int, seed: int) -> dict[int, StateMap]:
    """Write state at 40 keys; the states after each event, as they should be."""
    chance = random.Random(seed)  # reproducible
    alice = await here.user("alice")
    room = await here.core.rooms.known(room_id)
    keys = await here.core.interning.key_nids(list(room.state))
    expected: dict[int, StateMap] = {}
    for number in range(count):
        key = ("org.example.note", str(chance.randrange(40)))
        await here.rooms.sending.put_state(alice, room_id, key, {"n": number})
        keys |= await here.core.interning.key_nids([key])
        expected[room.room_state.nid] = {keys[each]: nid for each, nid in room.state.items()}
    return expected


async def test_every_state_stays_what_it_was_and_is_read_in_few_hops(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        room_id = await here.room(await here.user("alice"))
        expected = await _notes(here, room_id, 300, seed=3)
        await here.core.compaction.drain()  # half behind the writer, half by the upkeep
        expected |= await _notes(here, room_id, 300, seed=4)
        here.core.compaction._due.clear()  # as if the process had ended
        await StateUpkeep(here.core.db, here.core.clock).once()
        fresh = StateStore(here.core.db, MemoryBudget(1 << 30))
        for state_nid, state in expected.items():
            assert await fresh.load(state_nid) == state
            hops, height = await _hops(here, state_nid)
            assert hops <= max_hops(height)
        assert (await _hops(here, max(expected)))[0] <= max_hops(600) == 45


async def test_a_state_event_needs_no_row_of_its_own(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        room_id = await here.room(await here.user("alice"))
        expected = await _notes(here, room_id, 100, seed=5)
        await here.core.compaction.drain()
        assert await _count(database) < len(expected) / 10
        heights = await StateStore(here.core.db, MemoryBudget(1 << 30)).heights(list(expected))
        assert sorted(heights.values()) == list(range(min(heights.values()), min(heights.values()) + 100))


async def test_what_is_refused_leaves_nothing_behind(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, eve = await here.user("alice"), await here.user("eve")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(eve, room_id)
        room = await here.core.rooms.known(room_id)
        before = (
            await _count(database),
            room.room_state.nid,
            await here.core.states.load(room.room_state.nid),
        )
        with pytest.raises(Forbidden):
            await here.rooms.sending.put_state(eve, room_id, TOPIC, {"topic": "mine"})
        after = (
            await _count(database),
            room.room_state.nid,
            await here.core.states.load(room.room_state.nid),
        )
        assert before == after


async def test_single_values_are_found_wherever_in_the_chain_they_were_set(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, name="first")
        room = await here.core.rooms.known(room_id)
        nids = {}
        for number in range(50):
            await here.rooms.sending.put_state(alice, room_id, TOPIC, {"topic": str(number)})
            nids[room.room_state.nid] = room.state[TOPIC]
        keys = await here.core.interning.find_key_nids([TOPIC, ("m.room.name", "")])
        values = await StateStore(here.core.db, MemoryBudget(1 << 30)).values(list(nids), list(keys.values()))
        for state_nid, topic in nids.items():
            assert values[state_nid][keys[TOPIC]] == topic
            assert values[state_nid][keys["m.room.name", ""]] == room.state["m.room.name", ""]


async def test_two_states_differ_in_what_happened_between_them(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, topic="old")
        room = await here.core.rooms.known(room_id)
        before, old = room.room_state.nid, room.state[TOPIC]
        await here.rooms.sending.put_state(alice, room_id, TOPIC, {"topic": "new"})
        await here.rooms.sending.put_state(alice, room_id, ("org.example.note", ""), {})
        keys = await here.core.interning.find_key_nids([TOPIC, ("org.example.note", "")])
        found = await here.core.states.difference(before, room.room_state.nid)
        assert found == {
            keys[TOPIC]: Difference(old, room.state[TOPIC]),
            keys["org.example.note", ""]: Difference(0, room.state["org.example.note", ""]),
        }
        assert await here.core.states.difference(before, before) == {}


async def test_a_missing_link_is_an_error_and_no_other_state(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, topic="one")
        room = await here.core.rooms.known(room_id)
        topic = room.state[TOPIC]
        await here.rooms.sending.put_state(alice, room_id, ("org.example.note", ""), {})
        async with here.core.db.transaction() as tx:
            await tx.execute(
                "UPDATE events SET flags = %(rejected)s WHERE event_nid = %(nid)s",
                nid=topic,
                rejected=REJECTED,
            )
        async with here.core.db.read() as tx:
            with pytest.raises(BrokenState, match=str(topic)):
                await read_state(tx, room.room_state.nid)
