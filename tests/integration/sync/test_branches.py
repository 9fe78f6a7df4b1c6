"""What becomes of a room where branches meet reaches clients, though no event in their timeline says so (SYNC-07).

Clients that ask for `state_after` are told exactly what is; for `state` the answer is what fits before the timeline.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from homeserver.events.event import Event
from homeserver.graph.refs import SOFT_FAILED
from homeserver.matrix.ids import RoomId
from homeserver.web.auth import Requester
from tests.support.forks import Branch, Fork, receive
from tests.support.graph import Process, process

MEMBER, NAME, TOPIC = "m.room.member", "m.room.name", "m.room.topic"
State = dict[tuple[str, str], str]


class Told(NamedTuple):
    """One room in an answer."""

    state: State
    timeline: list[str]


def told(answer: dict[str, Any], room_id: str, section: str = "join") -> Told:
    room = answer.get("rooms", {}).get(section, {}).get(room_id, {})
    events = room.get("state_after", room.get("state", {})).get("events", ())
    state = {(event["type"], event["state_key"]): event["event_id"] for event in events}
    return Told(state, [event["event_id"] for event in room.get("timeline", {}).get("events", ())])


class World(NamedTuple):
    """A room of three: alice made it, bob has power 50 and carol 60."""

    alice: Requester
    bob: Requester
    carol: Requester
    room_id: RoomId
    first_name: str


async def world(here: Process, version: str = "11", **parameters: Any) -> World:
    alice, bob, carol = [await here.user(name) for name in ("alice", "bob", "carol")]
    parameters = {"preset": "public_chat", "room_version": version} | parameters
    room_id = await here.room(alice, **parameters, invite=[bob.user_id, carol.user_id])
    for who in (bob, carol):
        await here.rooms.membership.join(who, room_id)
    levels = dict((await Fork.of(here, room_id)).branch().state["m.room.power_levels", ""].content)
    levels["users"] = {**levels["users"], bob.user_id: 50, carol.user_id: 60}
    await here.rooms.sending.put_state(alice, room_id, ("m.room.power_levels", ""), levels)
    name = await here.rooms.sending.put_state(alice, room_id, (NAME, ""), {"name": "first"})
    return World(alice, bob, carol, room_id, name)


def banned(world: World, branch: Branch) -> Event:
    return branch.says(world.alice.user_id, MEMBER, world.bob.user_id, {"membership": "ban"})


both = pytest.mark.parametrize("state_after", [True, False])


@both
@pytest.mark.parametrize("version", ["2", "11", "12"])
async def test_sync_07_what_resolution_takes_back_is_told(
    database: str, tmp_path: Path, state_after: bool, version: str
) -> None:
    """Bob's name for the room falls when the ban comes to light: the first name is current again."""
    async with process(database, tmp_path) as here:
        w = await world(here, version)
        fork = await Fork.of(here, w.room_id)
        left, right = fork.branch(), fork.branch()
        ban = banned(w, left)
        renamed = right.says(w.bob.user_id, NAME, "", {"name": "bob's"})
        await receive(here, renamed)
        answer = await here.sync(w.carol, state_after=state_after)
        await receive(here, ban)
        near = told(await here.sync(w.carol, answer["next_batch"], state_after=state_after), w.room_id)
        assert near.timeline == [ban.event_id]
        assert near.state[NAME, ""] == w.first_name
    async with process(database, tmp_path) as later:  # remembers nothing of it: reads it from the database
        far = told(await later.sync(w.carol, answer["next_batch"], state_after=state_after), w.room_id)
        assert far == near


@both
async def test_sync_07_who_was_away_for_long_learns_what_was_reset_in_the_gap(
    database: str, tmp_path: Path, state_after: bool
) -> None:
    async with process(database, tmp_path) as here:
        w = await world(here)
        fork = await Fork.of(here, w.room_id)
        left, right = fork.branch(), fork.branch()
        ban = banned(w, left)
        await receive(here, right.says(w.bob.user_id, NAME, "", {"name": "bob's"}))
        since = (await here.sync(w.carol))["next_batch"]
        await receive(here, ban)
        for number in range(12):
            await here.send(w.alice, w.room_id, str(number))
        near = told(await here.sync(w.carol, since, state_after=state_after), w.room_id)
        assert (near.state[NAME, ""], near.state[MEMBER, w.bob.user_id]) == (w.first_name, ban.event_id)
    async with process(database, tmp_path) as later:
        assert told(await later.sync(w.carol, since, state_after=state_after), w.room_id) == near


async def test_sync_07_state_that_was_overruled_on_arrival_is_in_the_timeline_but_not_in_state_after(
    database: str, tmp_path: Path
) -> None:
    """Two names given at once: the one that arrives last loses, being the older in time."""
    async with process(database, tmp_path) as here:
        w = await world(here)
        since = (await here.sync(w.carol))["next_batch"]
        fork = await Fork.of(here, w.room_id)
        left, right = fork.branch(), fork.branch()
        older = left.says(w.alice.user_id, NAME, "", {"name": "older"})
        newer = right.says(w.alice.user_id, NAME, "", {"name": "newer"})
        await receive(here, newer, older)
        near = told(await here.sync(w.carol, since, state_after=True), w.room_id)
        assert near.timeline == [newer.event_id, older.event_id]
        assert near.state == {(NAME, ""): newer.event_id}
        for number in range(12):
            await here.send(w.alice, w.room_id, str(number))
        limited = told(await here.sync(w.carol, since), w.room_id)
        assert limited.state == {(NAME, ""): newer.event_id}
    async with process(database, tmp_path) as later:
        assert told(await later.sync(w.carol, since), w.room_id) == limited


@both
async def test_sync_07_a_soft_failed_event_that_resolution_accepts_is_told_as_state(
    database: str, tmp_path: Path, state_after: bool
) -> None:
    """FED-13: when it comes it is kept from clients; when others build on it, it may become state."""
    async with process(database, tmp_path) as here:
        w = await world(here)
        fork = await Fork.of(here, w.room_id)
        left, right = fork.branch(), fork.branch()
        ban = left.says(w.carol.user_id, MEMBER, w.bob.user_id, {"membership": "ban"})
        renamed = right.says(w.bob.user_id, NAME, "", {"name": "bob's"})
        levels = {**right.state["m.room.power_levels", ""].content, "ban": 100}
        raised = right.says(w.alice.user_id, "m.room.power_levels", "", levels)
        await receive(here, ban)
        (soft,) = await receive(here, renamed)
        assert soft.flags == SOFT_FAILED
        answer = await here.sync(w.alice)
        assert renamed.event_id not in told(answer, w.room_id).timeline
        # Alice says in time that carol may not ban: so bob may well name the room.
        await receive(here, raised)
        near = told(await here.sync(w.alice, answer["next_batch"], state_after=state_after), w.room_id)
        assert near.timeline == [raised.event_id]
        assert near.state[NAME, ""] == renamed.event_id
        assert near.state[MEMBER, w.bob.user_id] != ban.event_id
        assert (
            told(await here.sync(w.alice, state_after=state_after), w.room_id).state[NAME, ""]
            == renamed.event_id
        )
    async with process(database, tmp_path) as later:
        far = told(await later.sync(w.alice, answer["next_batch"], state_after=state_after), w.room_id)
        assert far == near


@pytest.mark.parametrize("remembers", [True, False])
async def test_sync_07_who_is_in_the_room_no_more_by_resolution_is_told_so(
    database: str, tmp_path: Path, remembers: bool
) -> None:
    """Dave joins while alice closes the room: dave never was a member."""
    async with process(database, tmp_path) as here:
        w = await world(here)
        dave = await here.user("dave")
        fork = await Fork.of(here, w.room_id)
        left, right = fork.branch(), fork.branch()
        closed = left.says(w.alice.user_id, "m.room.join_rules", "", {"join_rule": "invite"})
        await receive(here, right.says(dave.user_id, MEMBER, dave.user_id, {"membership": "join"}))
        answer = await here.sync(dave)
        assert w.room_id in answer["rooms"]["join"]
        await receive(here, closed)
        if remembers:
            gone = await here.sync(dave, answer["next_batch"])
    if not remembers:
        async with process(database, tmp_path) as later:
            gone = await later.sync(dave, answer["next_batch"])
            again = await later.sync(dave, gone["next_batch"])
            assert "rooms" not in again
    assert w.room_id in gone["rooms"]["leave"]
    assert w.room_id not in gone["rooms"].get("join", {})


async def test_sync_07_readers_of_one_section_are_told_apart_from_resets(
    database: str, tmp_path: Path
) -> None:
    """What is made once for many readers holds what resolution did, for each of them."""
    async with process(database, tmp_path) as here:
        w = await world(here)
        dave = await here.user("dave")
        await here.rooms.membership.join(dave, w.room_id)
        fork = await Fork.of(here, w.room_id)
        left, right = fork.branch(), fork.branch()
        raised = left.says(
            w.alice.user_id,
            "m.room.power_levels",
            "",
            {**left.state["m.room.power_levels", ""].content, "events": {NAME: 100}},
        )
        await receive(here, right.says(w.bob.user_id, NAME, "", {"name": "bob's"}))
        since = (await here.sync(dave))["next_batch"]
        await receive(here, raised)
        for reader in (dave, w.carol, dave):
            a = await here.sync(reader, since)
            print(a)
            assert told(await here.sync(reader, since), w.room_id).state[NAME, ""] == w.first_name
