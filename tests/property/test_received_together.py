"""Events that come together make the same room as those that come one by one, in whatever order and parts they come (STATE-09)."""

import contextlib
import random
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from homeserver.events.event import Event
from homeserver.graph.write.receive import MissingEvents
from homeserver.matrix.ids import RoomId
from tests.support.forks import Branch, Fork, receive_together, state_of
from tests.support.graph import Process, process
from tests.support.postgres import Postgres

PEOPLE = [f"@{name}:elsewhere.example" for name in ("bob", "carol", "dave")]


def written(chance: random.Random, fork: Fork, alice: str) -> list[Event]:
    """What is said on three branches that see each other now and then; each event after those it stands on."""
    branches = [fork.branch() for _ in range(3)]
    everybody = [alice, *PEOPLE]
    events: list[Event] = []
    for _ in range(40):
        branch = chance.choice(branches)
        events.append(_say(chance, branch, everybody, [each.tip for each in branches if each is not branch]))
    return events


def _say(chance: random.Random, branch: Branch, everybody: list[str], others: list[Event]) -> Event:
    sender, target = chance.choice(everybody), chance.choice(everybody)
    levels = dict(branch.state["m.room.power_levels", ""].content)
    levels["users"] = {**levels["users"], target: chance.choice([0, 50, 100])}
    body = str(chance.random())
    kind, key, content = chance.choice(
        [
            ("m.room.message", None, {"body": body, "msgtype": "m.text"}),
            ("m.room.message", None, {"body": body, "msgtype": "m.text"}),
            ("m.room.topic", "", {"topic": body}),
            ("m.room.member", target, {"membership": chance.choice(["ban", "leave", "invite"])}),
            ("m.room.member", sender, {"membership": "join", "x": body}),
            ("m.room.join_rules", "", {"join_rule": chance.choice(["public", "invite"])}),
            ("m.room.power_levels", "", levels),
        ]
    )
    also = [chance.choice(others)] if chance.random() < 0.15 and others[0] is not branch.tip else []
    return branch.says(sender, kind, key, content, *(each for each in also if each is not branch.tip))


async def deliver(here: Process, room_id: RoomId, events: list[Event], chance: random.Random) -> None:
    """In random parts; what comes too early comes again."""
    waiting = list(events)
    while waiting:
        size = chance.randrange(1, 12)
        picked = sorted(chance.sample(range(len(waiting)), min(size, len(waiting))))
        with contextlib.suppress(MissingEvents):
            await receive_together(here, room_id, *[waiting[at] for at in picked])
            waiting = [event for at, event in enumerate(waiting) if at not in picked]
            continue
        await receive_together(here, room_id, waiting.pop(0))


@pytest.mark.parametrize("seed", range(3))
async def test_state_09_parts_and_order_make_no_difference(
    postgres: Postgres, database: str, tmp_path: Path, seed: int
) -> None:
    """State, extremities, and what was rejected."""
    chance = random.Random(seed)
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice, preset="public_chat", room_version=chance.choice(["6", "11", "12"]))
        branch = (await Fork.of(here, room_id)).branch()
        joins = [branch.says(each, "m.room.member", each, {"membership": "join"}) for each in PEOPLE]
        await receive_together(here, room_id, *joins)
        events = written(chance, await Fork.of(here, room_id), alice.user_id)
    outcomes = []
    for number in range(3):
        copy = f"together_{seed}_{number}"
        dsn = postgres.create(copy, template=str(conninfo_to_dict(database)["dbname"]))
        try:
            async with process(dsn, tmp_path) as here:
                if number:
                    await deliver(here, room_id, events, random.Random(seed * 10 + number))
                else:
                    for event in events:
                        await here.core.receiver.receive(event)
                state = {key: each.event_id for key, each in (await state_of(here, room_id)).items()}
                here.core.rooms.reset()
                assert state == {key: each.event_id for key, each in (await state_of(here, room_id)).items()}
                room = await here.core.rooms.known(room_id)
                by_chain = await here.core.states.load(room.room_state.nid)
                assert len(by_chain) == len(state)
                numbers = await here.core.events.numbers([event.event_id for event in events])
                loaded = await here.core.events.load(numbers.values())
                rejected = {each.event.event_id for each in loaded.values() if each.flags & 1}
                assert len(numbers) == len(events)
                outcomes.append((state, rejected))
        finally:
            postgres.drop(copy)
    assert outcomes[0] == outcomes[1] == outcomes[2]
