"""States made by resolution: the same one is found again, and goes when nothing stands on it. What is left means the same."""

import asyncio
import random
from pathlib import Path

import pytest

from homeserver.graph.state import garbage
from homeserver.graph.state.rows import FIRST_RESOLVED, StateMap, max_hops, read_chain, read_state
from homeserver.graph.state.states import StateStore
from homeserver.graph.state.upkeep import StateUpkeep
from homeserver.matrix.ids import RoomId
from homeserver.runtime.cache import MemoryBudget
from tests.support.branches import Branch, branches
from tests.support.graph import Process, process

TOPIC = "m.room.topic"


async def _all_states(here: Process) -> dict[int, StateMap]:
    """Every state that an event or a room stands on, or that is the state after an event."""
    async with here.core.db.snapshot() as tx:
        nids = await tx.column(
            """
            SELECT state_nid FROM events WHERE flags & 4 = 0
            UNION SELECT event_nid FROM events WHERE key_nid IS NOT NULL AND flags & 5 = 0
            UNION SELECT state_nid FROM rooms
            """
        )
        return {nid: await read_state(tx, nid) for nid in nids if nid}


async def _resolved(here: Process) -> list[int]:
    async with here.core.db.read() as tx:
        return await tx.column(
            "SELECT state_nid FROM state WHERE state_nid <= %(first)s", first=FIRST_RESOLVED
        )


async def _room(here: Process) -> RoomId:
    alice = await here.user("alice")
    room_id = await here.room(alice, preset="public_chat", topic="first")
    await here.rooms.membership.join(await here.user("bob"), room_id)
    return room_id


async def _wander(here: Process, room_id: RoomId, chance: random.Random, steps: int) -> None:
    """Three branches grow at random, with a word from here now and then."""
    alice, bob = await here.user("alice"), await here.user("bob")
    growing = await branches(here.core, room_id, 3)
    for number in range(steps):
        branch = chance.choice(growing)
        match chance.randrange(5):
            case 0:
                await branch.send(alice.user_id, TOPIC, "", {"topic": f"{number}"})
            case 1:
                note = str(chance.randrange(10))
                await branch.send(alice.user_id, "org.example.note", note, {"n": number})
            case 2:
                content = {"membership": "join", "displayname": f"{number}"}
                await branch.send(bob.user_id, "m.room.member", bob.user_id, content)
            case 3:
                other = chance.choice([each for each in growing if each is not branch])
                await _say(branch, alice.user_id, other)
            case _:
                await _say(branch, alice.user_id)
    await here.send(alice, room_id, "together again")


async def _say(branch: Branch, sender: str, *others: Branch) -> None:
    tips = [other.tip for other in others if other.tip.nid != branch.tip.nid]
    await branch.send(sender, "m.room.message", None, {"msgtype": "m.text", "body": "hi"}, *tips)


@pytest.mark.parametrize("seed", range(6))
async def test_what_is_still_reached_is_the_same_after_the_upkeep(
    database: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)  # reproducible
    async with process(database, tmp_path) as here:
        room_id = await _room(here)
        for _ in range(2):
            await _wander(here, room_id, chance, steps=25)
            if seed % 2:
                await here.core.compaction.drain()
        before, rows = await _all_states(here), await _resolved(here)
        done = await StateUpkeep(here.core.db, here.core.clock).once()
        assert await _all_states(here) == before
        assert done.deleted > 0
        assert len(await _resolved(here)) == len(rows) - done.deleted
        assert (await StateUpkeep(here.core.db, here.core.clock).once()).deleted == 0, (
            "all of it went at once"
        )
        heights = await StateStore(here.core.db, MemoryBudget(1 << 30)).heights(list(before))
        async with here.core.db.read() as tx:
            for nid in before:
                assert len(await read_chain(tx, nid, heights[nid])) <= max_hops(heights[nid]) + 1
        await _wander(here, room_id, chance, steps=5)


async def test_the_same_state_is_found_again(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, room_id = await here.user("alice"), await _room(here)
        left, right, third = await branches(here.core, room_id, 3)
        await left.send(alice.user_id, TOPIC, "", {"topic": "left"})
        await right.send(alice.user_id, "org.example.note", "", {})
        await third.send(alice.user_id, "org.example.note", "third", {})
        persisted = []
        for body in ("one", "two", "three"):
            both = Branch(here.core, (await here.core.rooms.known(room_id)).state, left.tip)
            content = {"msgtype": "m.text", "body": body}
            persisted.append(await both.send(alice.user_id, "m.room.message", None, content, right.tip))
        assert len({each.state_before.nid for each in persisted}) == 1


async def test_a_state_that_went_before_it_was_used_is_made_anew(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(database, tmp_path) as here:
        alice, room_id = await here.user("alice"), await _room(here)
        left, right = await branches(here.core, room_id, 2)
        await left.send(alice.user_id, TOPIC, "", {"topic": "left"})
        await right.send(alice.user_id, "org.example.note", "", {})
        find = here.core.receiver._sources.resolver._find
        answers = [(FIRST_RESOLVED - 1_000_000, 5)]

        async def find_what_is_gone(content: bytes) -> tuple[int, int] | None:
            return answers.pop() if answers else await find(content)

        monkeypatch.setattr(here.core.receiver._sources.resolver, "_find", find_what_is_gone)
        await _say(left, alice.user_id, right)
        assert not answers
        assert left.tip.state_before.nid in await _all_states(here)


async def test_two_processes_write_while_both_take_garbage_away(database: str, tmp_path: Path) -> None:
    async with (
        process(database, tmp_path, alone=False) as one,
        process(database, tmp_path, alone=False) as two,
    ):
        rooms = [await _room(one) for _ in range(2)]
        stop = asyncio.Event()

        async def collect(here: Process) -> int:
            deleted = 0
            while not stop.is_set():
                deleted += (await garbage.sweep(here.core.db)).deleted
                await here.core.compaction.drain()
            return deleted

        collecting = [asyncio.create_task(collect(here)) for here in (one, two)]
        try:
            for turn in range(2):
                async with asyncio.TaskGroup() as group:
                    for here, room_id in zip((one, two), rooms if turn else rooms[::-1], strict=True):
                        await here.core.tail.fresh()
                        group.create_task(
                            _wander(here, room_id, random.Random(turn), steps=15)
                        )  # reproducible
        finally:
            stop.set()
        assert sum(await asyncio.gather(*collecting)) > 0
        states = await _all_states(one)
        for here in (one, two):
            await here.core.tail.fresh()
            for room_id in rooms:
                room = await here.core.rooms.known(room_id)
                assert sorted(states[room.room_state.nid].values()) == sorted(room.state.values())
        async with one.core.db.read() as tx:
            cached = one.core.states._states._values.items()
            for nid, state in cached:  # as they were when they were first read
                if nid in states:
                    assert await read_state(tx, nid) == state
