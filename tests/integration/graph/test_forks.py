"""Branches of a room meet: two servers that hear the same events in different orders have the same state, and the next local
event brings the branches together (STATE-09, FED-12, FED-13).
"""

import random
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from homeserver.events.builder import EventDraft
from homeserver.events.event import Event, StateKey
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import REJECTED
from homeserver.graph.write.forward_extremities import MERGE_ABOVE
from homeserver.matrix.ids import RoomId, UserId
from tests.support.forks import Elsewhere, Fork, receive, state_of
from tests.support.graph import Process, process
from tests.support.postgres import Postgres


async def _by_ids(here: Process, room_id: RoomId) -> dict[StateKey, str]:
    return {key: event.event_id for key, event in (await state_of(here, room_id)).items()}


async def _history(here: Process, room_id: RoomId, alice: UserId, bob: UserId) -> list[Event]:
    """Two branches from one event: alice bans bob on one; bob renames the room, and talks, on the other."""
    base = await state_of(here, room_id)
    room = await here.core.rooms.known(room_id)
    persisted = await here.core.events.one(room.extremities[0].nid)
    assert persisted is not None
    elsewhere, tip = Elsewhere(here, base), persisted.event

    def name(sender: UserId, text: str) -> EventDraft:
        return EventDraft("m.room.name", "", sender, {"name": text})

    ban = EventDraft("m.room.member", bob, alice, {"membership": "ban"})
    left = [elsewhere.event(room_id, [tip], base, ban)]
    left.append(elsewhere.event(room_id, [left[-1]], base, name(alice, "without bob")))
    right = [elsewhere.event(room_id, [tip], base, name(bob, "bobs room"))]
    talk = EventDraft("m.room.message", None, bob, {"msgtype": "m.text", "body": "still here"})
    right.append(elsewhere.event(room_id, [right[-1]], base, talk))
    right.append(elsewhere.event(room_id, [right[-1]], base, name(bob, "bobs room again")))
    return [*left, *right]


def _orders(events: list[Event]) -> list[list[Event]]:
    left, right = events[:2], events[2:]
    return [[*left, *right], [*right, *left], [right[0], left[0], right[1], left[1], right[2]]]


async def test_servers_that_hear_events_in_different_orders_agree(
    postgres: Postgres, database: str, tmp_path: Path
) -> None:
    for version in ("9", "11", "12"):
        async with process(database, tmp_path) as first:
            alice, bob = await first.user("alice"), await first.user("bob")
            room_id = await first.room(alice, preset="public_chat", room_version=version)
            await first.rooms.membership.join(bob, room_id)
            levels = dict((await state_of(first, room_id))["m.room.power_levels", ""].content)
            levels["users"] = {**levels["users"], bob.user_id: 50}
            await first.rooms.sending.put_state(alice, room_id, ("m.room.power_levels", ""), levels)
            history = await _history(first, room_id, alice.user_id, bob.user_id)
        states: list[dict[StateKey, str]] = []
        for number, order in enumerate(_orders(history)):
            copy = f"fork_{version}_{number}"
            dsn = postgres.create(copy, template=str(conninfo_to_dict(database)["dbname"]))
            try:
                async with process(dsn, tmp_path) as here:
                    for event in order:
                        await here.core.receiver.receive(event)
                    room = await here.core.rooms.known(room_id)
                    assert len(room.extremities) in (1, 2)
                    states.append(await _by_ids(here, room_id))
                    await _check_all_representations(here, room_id)
                    await here.send(alice, room_id, "together again")
                    room = await here.core.rooms.known(room_id)
                    assert len(room.extremities) == 1
                    assert await _by_ids(here, room_id) == states[-1]
            finally:
                postgres.drop(copy)
        assert states[0] == states[1] == states[2]
        assert states[0]["m.room.member", bob.user_id] == history[0].event_id, "the ban wins"


async def _check_all_representations(here: Process, room_id: RoomId) -> None:
    """In memory, loaded anew, and from the chain of deltas: one state."""
    room = await here.core.rooms.known(room_id)
    here.core.rooms.reset()
    again = await here.core.rooms.known(room_id)
    assert again.state == room.state
    assert again.members == room.members
    by_chain = await here.core.states.load(room.room_state.nid)
    assert sorted(by_chain.values()) == sorted(room.state.values())


async def test_what_is_not_allowed_is_kept_as_rejected_and_changes_nothing(
    database: str, tmp_path: Path
) -> None:
    """FED-12"""
    async with process(database, tmp_path) as here:
        alice, eve = await here.user("alice"), await here.user("eve")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(eve, room_id)
        base = await state_of(here, room_id)
        room = await here.core.rooms.known(room_id)
        tip = await here.core.events.one(room.extremities[0].nid)
        assert tip is not None
        elsewhere = Elsewhere(here, base)
        coup = EventDraft("m.room.name", "", eve.user_id, {"name": "mine now"})
        event = elsewhere.event(room_id, [tip.event], base, coup)
        persisted = await here.core.receiver.receive(event)
        assert persisted.flags == REJECTED
        assert (await here.core.rooms.known(room_id)).extremities[0].nid == tip.nid
        assert await _by_ids(here, room_id) == {key: each.event_id for key, each in base.items()}
        again: PersistedEvent = await here.core.receiver.receive(event)
        assert again.nid == persisted.nid, "received twice, written once"
        answer = await here.sync(alice)
        shown = answer["rooms"]["join"][room_id]["timeline"]["events"]
        assert event.event_id not in [each["event_id"] for each in shown]


async def test_state_08_what_rests_on_a_rejected_event_never_becomes_state(
    database: str, tmp_path: Path
) -> None:
    """STATE-08, EVT-08: eve gives herself power, and uses it on a branch that grows longer than ours."""
    async with process(database, tmp_path) as here:
        alice, eve = await here.user("alice"), await here.user("eve")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(eve, room_id)
        before = await _by_ids(here, room_id)
        fork = await Fork.of(here, room_id)
        ours, hers = fork.branch(), fork.branch()
        levels = dict(hers.state["m.room.power_levels", ""].content)
        coup = hers.says(
            eve.user_id, "m.room.power_levels", "", {**levels, "users": {**levels["users"], eve.user_id: 100}}
        )
        named = hers.says(eve.user_id, "m.room.name", "", {"name": "eve's"})
        topic = hers.says(eve.user_id, "m.room.topic", "", {"topic": "eve's too"})
        assert coup.event_id in named.auth_event_ids
        for persisted in await receive(here, *hers.events):
            assert persisted.flags & REJECTED
        ours_named = ours.says(alice.user_id, "m.room.name", "", {"name": "ours"})
        await receive(here, ours_named)
        # Somebody's event joins both branches: what was rejected is not in the state after them either.
        join = ours.says(alice.user_id, "m.room.message", None, {"body": "both", "msgtype": "m.text"}, topic)
        await receive(here, join)
        assert await _by_ids(here, room_id) == {**before, ("m.room.name", ""): ours_named.event_id}


async def test_many_branches_meet_in_one_event_after_another(database: str, tmp_path: Path) -> None:
    """EVT-03, FED-42"""
    chance = random.Random(2)  # reproducible
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room_id = await here.room(alice)
        base = await state_of(here, room_id)
        room = await here.core.rooms.known(room_id)
        tip = await here.core.events.one(room.extremities[0].nid)
        assert tip is not None
        elsewhere = Elsewhere(here, base)
        for number in range(MERGE_ABOVE):
            draft = EventDraft("m.room.topic", "", alice.user_id, {"topic": f"{number}.{chance.random()}"})
            await here.core.receiver.receive(elsewhere.event(room_id, [tip.event], base, draft))
        room = await here.core.rooms.known(room_id)
        assert len(room.extremities) == MERGE_ABOVE
        for _ in range(2):
            await here.send(alice, room_id, "here")
        room = await here.core.rooms.known(room_id)
        assert len(room.extremities) == 1
        await _check_all_representations(here, room_id)
