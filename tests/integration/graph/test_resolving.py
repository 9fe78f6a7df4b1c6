"""State resolution from the database: what comes of it is what the pure functions say, in linear time however deep or wide the
room is, and other rooms go on meanwhile (STATE-01 to STATE-09).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeserver.events.event import Event, StateKey
from homeserver.events.room_version import RoomVersion
from homeserver.events.state_resolution import Request, Resolution, resolve
from homeserver.graph.resolved import THIS_EVENT
from homeserver.graph.state import resolver as shell
from homeserver.graph.state.resolver import StateResolver, UnwrittenEvent
from homeserver.matrix.ids import EventId
from tests.support.auth_graph import bare_event
from tests.support.cpu import cpu_time, grows_linearly
from tests.support.factory import ALICE, ALL_VERSIONS
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process
from tests.support.histories import Step, play
from tests.support.persisted_events import empty, store_room
from tests.unit.state_resolution.test_resolution import long_line, wide_room

States = Sequence[Mapping[StateKey, EventId]]


def resolver(here: Process) -> StateResolver:
    core = here.core
    return StateResolver(core.db, core.events, core.states, core.interning)


async def resolved(
    here: Process,
    version: RoomVersion,
    states: States,
    numbers: Mapping[EventId, int],
    own: UnwrittenEvent | None = None,
) -> dict[StateKey, EventId]:
    """The states become one, in the database's numbers; here by their names again."""
    keys = await here.core.interning.key_nids({key for state in states for key in state})
    maps = [{keys[key]: numbers[event_id] for key, event_id in state.items()} for state in states]
    names = {nid: event_id for event_id, nid in numbers.items()}
    found = await resolver(here).resolve(version, maps, own)
    back = {nid: key for key, nid in keys.items()}
    return {back[key]: names[nid] for key, nid in found.items()}


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


small = st.integers(0, 120)
steps = st.lists(st.builds(Step, small, small, small, small, small, small), min_size=5, max_size=50)


def test_state_09_resolution_from_the_database_is_that_of_the_pure_functions(
    database: str, tmp_path: Path, runner: asyncio.Runner
) -> None:
    context = process(database, tmp_path)
    here = runner.run(context.__aenter__())

    @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(ALL_VERSIONS), steps, st.booleans())
    def compare(version: str, drawn: list[Step], with_own: bool) -> None:
        runner.run(check(version, drawn, with_own=with_own))

    async def check(version: str, drawn: list[Step], *, with_own: bool) -> None:
        history = play(version, drawn)
        events = history.room.events
        states = history.merges[-1]
        unwritten = _unwritten(states, events) if with_own else None
        numbers = await store_room(here, [each for each in events.values() if each is not unwritten])
        own = None
        if unwritten is not None:
            own = UnwrittenEvent(unwritten, [numbers[each] for each in unwritten.auth_event_ids])
            numbers[unwritten.event_id] = THIS_EVENT
        try:
            for merged in [*history.merges, history.merges[-1][::-1]]:
                found = await resolved(here, history.room.version, merged, numbers, own)
                assert found == resolve(merged, events, history.room.version)
        finally:
            await empty(here)

    try:
        compare()
    finally:
        runner.run(context.__aexit__(None, None, None))


def _unwritten(states: States, events: Mapping[EventId, Event]) -> Event | None:
    """An event of one state alone that nothing rests on: it could just have arrived."""
    cited = {each for event in events.values() for each in event.auth_event_ids}
    for event_id in reversed(events):
        if sum(event_id in state.values() for state in states) == 1 and event_id not in cited:
            return events[event_id]
    return None


# --- deep and wide ---------------------------------------------------------------------------------------------------


async def seconds_for_line(here: Process, length: int, *, forget: bool = False) -> float:
    """CPU seconds to resolve two sides that lie so many power levels apart."""
    events, sides = long_line(length)
    numbers = await store_room(here, events.values())
    if forget:
        async with here.core.db.transaction() as tx:
            await tx.execute("UPDATE events SET chain = NULL, sequence = NULL, links = NULL")
    version = next(iter(events.values())).room_version
    with cpu_time() as spent:
        state = await resolved(here, version, sides, numbers)
    assert state["m.room.power_levels", ""] == f"${length - 1}"
    assert state["m.room.topic", ""] == "$new"
    await empty(here)
    return spent.seconds


@pytest.mark.parametrize("forget", [False, True])
async def test_a_deep_auth_chain_in_the_database_takes_linear_time(
    database: str, tmp_path: Path, forget: bool
) -> None:
    """`forget`: a room from before the chain cover, placed on the way."""
    async with process(database, tmp_path) as here:
        await seconds_for_line(here, 100, forget=forget)
        await grows_linearly(lambda length: seconds_for_line(here, length, forget=forget), 750, 3_000)


@pytest.mark.slow
@pytest.mark.parametrize("length", [50_000, pytest.param(200_000, marks=pytest.mark.load)])
async def test_a_very_long_auth_chain_in_the_database_overflows_nothing(
    database: str, tmp_path: Path, length: int
) -> None:
    """Fifty times as long as the interpreter's stack."""
    async with process(database, tmp_path) as here:
        assert await seconds_for_line(here, length) < length * 3e-3


async def test_what_recent_branches_rest_on_is_found_however_long_the_chain_is(
    database: str, tmp_path: Path
) -> None:
    """Two topics on the newest levels of three thousand: a handful of events is loaded, not the chain."""
    async with process(database, tmp_path) as here:
        events, sides = long_line(3_000)
        recent = bare_event("$recent", ["$c", "$a", "$2990"], key=("m.room.topic", ""), sender=ALICE)
        events[recent.event_id] = recent
        last = {**sides[0], ("m.room.topic", ""): recent.event_id}
        numbers = await store_room(here, events.values())
        here.core.events.clear()
        version = next(iter(events.values())).room_version
        await resolved(here, version, [sides[0], last], numbers)
        assert sum(here.core.events.get(nid) is not None for nid in numbers.values()) < 50


async def seconds_for_width(here: Process, width: int, version: str) -> float:
    room, sides = wide_room(width, version)
    numbers = await store_room(here, room.events.values())
    with cpu_time() as spent:
        state = await resolved(here, room.version, sides, numbers)
    assert sum(key[0] == "m.room.member" for key in state) == width + 1
    await empty(here)
    return spent.seconds


@pytest.mark.parametrize("version", ["1", "11", "12"])
async def test_a_thousand_branches_in_the_database_take_linear_time(
    database: str, tmp_path: Path, version: str
) -> None:
    async with process(database, tmp_path) as here:
        await seconds_for_width(here, 25, version)
        await grows_linearly(lambda width: seconds_for_width(here, width, version), 250, 1_000)


# --- other rooms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [True, False])
async def test_a_large_resolution_runs_beside_the_event_loop_and_other_rooms_go_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    """The pure part waits, in its thread, until somebody has spoken in another room."""
    spoken = threading.Event()
    begun, loop = asyncio.Event(), asyncio.get_running_loop()
    threads: list[int] = []
    advance = Resolution.advance

    def watched(self: Resolution) -> Request | None:
        threads.append(threading.get_ident())
        loop.call_soon_threadsafe(begun.set)
        assert not large or spoken.wait(60), "the event loop was blocked"
        return advance(self)

    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        other = await here.room(alice)
        room_id = await here.room(alice, preset="public_chat")
        fork = await Fork.of(here, room_id)
        left, right = fork.branch(), fork.branch()
        monkeypatch.setattr(shell, "LARGE", 0 if large else 1_000)
        monkeypatch.setattr(Resolution, "advance", watched)
        await receive(here, left.says(alice.user_id, "m.room.topic", "", {"topic": "left"}))
        forked = asyncio.create_task(
            here.core.receiver.receive(right.says(alice.user_id, "m.room.topic", "", {"topic": "right"}))
        )
        if large:
            await begun.wait()
            await here.send(alice, other, "still here")
            spoken.set()
        await forked
        assert threads
        assert all((thread != threading.get_ident()) == large for thread in threads)
