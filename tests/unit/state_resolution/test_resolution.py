"""How a resolution asks for what it lacks, and that depth and width do it no harm."""

from __future__ import annotations

import pytest

from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import V11
from homeserver.events.state_resolution import (
    MissingEvents,
    NeedsAuthDifference,
    NeedsEvents,
    Resolution,
    resolve,
)
from homeserver.events.state_resolution.pool import BATCH
from homeserver.matrix.ids import EventId
from tests.support.auth_graph import ChainStore, bare_event, by_walking
from tests.support.cpu import cpu_time, grows_linearly
from tests.support.factory import ALICE, BOB, CAROL, RoomFactory, versions

CREATE: StateKey = ("m.room.create", "")
LEVELS: StateKey = ("m.room.power_levels", "")
ALICES: StateKey = ("m.room.member", ALICE)


def forked(version: str = "12") -> tuple[RoomFactory, RoomFactory]:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL)
    room.power_levels(users={BOB: 50})
    left, right = room.fork(), room.fork()
    left.member(BOB, "ban", by=ALICE)
    right.state_event("m.room.topic", {"topic": "x"}, by=BOB)
    return left, right


@pytest.mark.parametrize("version", versions(1))
def test_a_resolution_asks_for_each_event_once_and_in_batches(version: str) -> None:
    left, right = forked(version)
    resolution = Resolution([left.state_ids, right.state_ids], left.version)
    asked: list[EventId] = []
    while request := resolution.advance():
        assert isinstance(request, NeedsEvents)
        assert 0 < len(request.event_ids) <= BATCH
        asked += request.event_ids
        resolution.add_events(left.events[event_id] for event_id in request.event_ids)
    assert len(asked) == len(set(asked))
    assert resolution.advance() is None
    assert resolution.state == resolve([left.state_ids, right.state_ids], left.events, left.version)


@pytest.mark.parametrize("version", versions(2))
def test_the_auth_difference_can_be_answered_by_the_shell(version: str) -> None:
    left, right = forked(version)
    store = ChainStore()
    for event in left.events.values():
        store.add(event)
    states = [left.state_ids, right.state_ids]
    resolution = Resolution(states, left.version, asks_auth_difference=True)
    questions = 0
    while request := resolution.advance():
        if isinstance(request, NeedsAuthDifference):
            questions += 1
            assert request.subgraph == (version == "12")
            assert store.answer(request) == by_walking(request, left.events)
            resolution.add_auth_difference(store.answer(request))
        else:
            resolution.add_events(left.events[event_id] for event_id in request.event_ids)
    assert questions == 1
    assert resolution.state == resolve(states, left.events, left.version)


@pytest.mark.parametrize("version", versions(1))
def test_an_event_that_is_not_there_is_named(version: str) -> None:
    left, right = forked(version)
    resolution = Resolution([left.state_ids, right.state_ids], left.version)
    request = resolution.advance()
    assert isinstance(request, NeedsEvents)
    lost, *others = request.event_ids
    resolution.add_events(left.events[event_id] for event_id in others)
    with pytest.raises(MissingEvents) as raised:
        resolution.advance()
    assert raised.value.event_ids == (lost,)


def test_many_events_are_asked_for_in_several_batches() -> None:
    left, right = forked("11")
    for number in range(BATCH + 10):
        left.state_event("x", {}, key=str(number))
    resolution = Resolution([left.state_ids, right.state_ids], left.version)
    sizes = []
    while request := resolution.advance():
        assert isinstance(request, NeedsEvents)
        sizes.append(len(request.event_ids))
        resolution.add_events(left.events[event_id] for event_id in request.event_ids)
    assert max(sizes) == BATCH
    assert len(resolution.state) == len(left.state_ids)


# --- deep and wide ---


def long_line(length: int) -> tuple[dict[EventId, Event], list[dict[StateKey, EventId]]]:
    """A room in which Alice has changed the power levels `length` times; one side has the last, the other the first."""
    content = {"users": {ALICE: 100}}
    events = [
        bare_event("$c", [], key=CREATE, sender=ALICE, content={"room_version": "11"}),
        bare_event("$a", ["$c"], key=ALICES, sender=ALICE, content={"membership": "join"}),
        bare_event("$0", ["$c", "$a"], key=LEVELS, sender=ALICE, content=content),
        *(
            bare_event(f"${n}", ["$c", "$a", f"${n - 1}"], key=LEVELS, sender=ALICE, content=content, ts=n)
            for n in range(1, length)
        ),
        bare_event("$old", ["$c", "$a", "$0"], key=("m.room.topic", ""), sender=ALICE),
        bare_event("$new", ["$c", "$a", f"${length - 1}"], key=("m.room.topic", ""), sender=ALICE),
    ]
    base = {CREATE: EventId("$c"), ALICES: EventId("$a")}
    last = EventId(f"${length - 1}")
    sides = [
        {**base, LEVELS: last, ("m.room.topic", ""): EventId("$new")},
        {**base, LEVELS: EventId("$0"), ("m.room.topic", ""): EventId("$old")},
    ]
    return {event.event_id: event for event in events}, sides


async def seconds_for_line(length: int) -> float:
    events, sides = long_line(length)
    with cpu_time() as spent:
        state = resolve(sides, events, V11)
    assert state[LEVELS] == f"${length - 1}"
    assert state[("m.room.topic", "")] == "$new"
    return spent.seconds


async def test_a_deep_chain_takes_linear_time() -> None:
    await seconds_for_line(500)
    await grows_linearly(seconds_for_line, 5_000, 20_000)


@pytest.mark.slow
async def test_a_chain_of_200_000_events_overflows_nothing() -> None:
    assert await seconds_for_line(200_000) < 120


def test_a_deep_mainline_is_followed_no_further_than_needed() -> None:
    events, sides = long_line(20_000)
    agreed = {**sides[0]}
    recent = bare_event("$recent", ["$c", "$a", "$19990"], key=("m.room.topic", ""), sender=ALICE)
    events[recent.event_id] = recent
    del agreed[("m.room.topic", "")]
    states = [
        {**agreed, ("m.room.topic", ""): EventId("$new")},
        {**agreed, ("m.room.topic", ""): EventId("$recent")},
    ]
    resolution = Resolution(states, V11, asks_auth_difference=True)
    asked = 0
    while request := resolution.advance():
        if isinstance(request, NeedsEvents):
            asked += len(request.event_ids)
            resolution.add_events(events[event_id] for event_id in request.event_ids)
        else:
            resolution.add_auth_difference(())
    assert resolution.state[("m.room.topic", "")] == "$new"
    assert asked < 50


def wide_room(width: int, version: str) -> tuple[RoomFactory, list[dict[StateKey, EventId]]]:
    """As many branches, each with a topic of its own and one who joined there."""
    room = RoomFactory.public(version)
    sides = []
    for number in range(width):
        side = room.fork()
        side.state_event("m.room.topic", {"topic": str(number)})
        side.join(f"@u{number}:two.example")
        sides.append(side.state_ids)
    return room, sides


async def seconds_for_width(width: int, version: str) -> float:
    room, sides = wide_room(width, version)
    with cpu_time() as spent:
        state = resolve(sides, room.events, room.version)
    assert sum(key[0] == "m.room.member" for key in state) == width + 1
    return spent.seconds


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_a_thousand_extremities_take_linear_time(version: str) -> None:
    await seconds_for_width(50, version)
    await grows_linearly(lambda width: seconds_for_width(width, version), 250, 1_000)
