"""The chain cover in the database: whatever the auth graph, it answers what walking answers (STATE-02, STATE-07).

Auth graphs are drawn at random and written as events without a history, several to a batch, some as if they had been written
before there was a cover.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from homeserver.events.event import Event
from homeserver.graph.entry import EventEntry
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import OUTLIER, EventRef
from homeserver.graph.resolved import THIS_EVENT
from homeserver.graph.state.auth_cover import AuthCover
from homeserver.log.entries import Append
from homeserver.matrix.ids import EventId, RoomId, UserId
from tests.support.auth_graph import bare_event, by_walking, question
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process

names = count()


class Room(NamedTuple):
    """Where the graphs are written."""

    here: Process
    room_id: RoomId
    sender: UserId


async def write(
    room: Room, graph: Sequence[Sequence[int]], batches: Sequence[int], *, old: int = 0
) -> list[EventRef]:
    """Events that cite each other as `graph` says, oldest first; `batches` are the sizes of what is written at once.

    The first `old` are written as if before there was a cover.
    """
    core = room.here.core
    known = await core.rooms.known(room.room_id)
    sender = await core.interning.user_nid(room.sender)
    key = ("x", "")
    key_nid = (await core.interning.key_nids([key]))[key]
    refs: list[EventRef] = []
    entries: list[EventEntry] = []
    sizes = [*batches, len(graph)]
    for number, cited in enumerate(graph):
        auth = [refs[each] for each in sorted({choice % number for choice in cited})] if number else []
        event = bare_event(f"$drawn{next(names)}", [ref.event_id for ref in auth], sender=room.sender)
        refs.append(EventRef(event.event_id, 0, 1))
        persisted = PersistedEvent(
            event,
            refs[-1],
            room_nid=known.name.nid,
            sender_nid=sender,
            state_before=known.room_state,
            flags=OUTLIER,
        )
        entries.append(
            EventEntry(
                persisted=persisted,
                base=known.extremities,
                extremities=known.extremities,
                room_state=known.room_state,
                auth=tuple(auth),
                key_nid=key_nid,
            )
        )
        if len(entries) >= sizes[0] or number + 1 == old:
            sizes = sizes[1:] or sizes
            await core.log.add(Append(entries))
            entries = []
            if number + 1 == old:
                await forget_places(room, refs[0].nid, refs[-1].nid)
    if entries:
        await core.log.add(Append(entries))
    return refs


async def forget_places(room: Room, first: int, last: int) -> None:
    """As if these had been written before there was a cover."""
    async with room.here.core.db.transaction() as tx:
        await tx.execute(
            "UPDATE events SET chain = NULL, sequence = NULL, links = NULL WHERE event_nid BETWEEN %(first)s AND %(last)s",
            first=first,
            last=last,
        )


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


graphs = st.lists(st.lists(st.integers(0, 1_000_000), max_size=10), min_size=2, max_size=40)
choices = st.lists(st.integers(0, 1_000_000), max_size=5)
_TWO_OF_A_CHAIN: Final = [[], [], [0], [0, 1], [0, 1], [3], [4]]
"""A batch that rests on two events of one chain, of which the later one alone leads to another chain."""


def test_state_02_the_stored_cover_answers_what_walking_answers(
    database: str, tmp_path: Path, runner: asyncio.Runner
) -> None:
    context = process(database, tmp_path)
    here = runner.run(context.__aenter__())
    alice = runner.run(here.user("alice"))
    room = Room(here, runner.run(here.room(alice)), alice.user_id)

    @settings(
        deadline=None,
        max_examples=50,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(graphs, choices, st.lists(choices, min_size=2, max_size=4), choices, st.booleans(), st.booleans())
    @example([[], [0], [0, 1], [1], [2, 3]], [0], [[4], [3]], [2], True, True)
    @example([[], [], [], [], [], [3, 4], [], [3, 4], [], [], []], [7], [[], [5]], [], True, False)
    @example(_TWO_OF_A_CHAIN, [], [[], [6]], [3, 2], False, False)
    def compare(graph, common, sides, batches, old, unwritten) -> None:
        runner.run(check(graph, common, sides, [size % 7 + 1 for size in batches], old, unwritten))

    async def check(
        graph: Sequence[Sequence[int]],
        common: Sequence[int],
        sides: Sequence[Sequence[int]],
        batches: Sequence[int],
        old: bool,
        unwritten: bool,
    ) -> None:
        refs = await write(room, graph, batches, old=len(graph) // 2 if old else 0)
        events = {ref.event_id: await load(ref.nid) for ref in refs}
        agreed = {each % len(refs) for each in common}
        conflicted = [{each % len(refs) for each in side} - agreed for side in sides]
        numbers: list[set[int]] = [{refs[each].nid for each in side} for side in conflicted]
        names_of = [{refs[each].event_id for each in side} for side in conflicted]
        own_auth: set[int] = set()
        if unwritten and sides[0]:  # one side has an event that has no row yet
            own = bare_event("$own", sorted({refs[each % len(refs)].event_id for each in sides[0]}))
            events[EventId("$own")] = own
            names_of[0].add(EventId("$own"))
            numbers[0].add(THIS_EVENT)
            own_auth = {refs[each % len(refs)].nid for each in sides[0]}
        for subgraph in (False, True):
            cover = AuthCover(here.core.db, here.core.events)
            found = await cover.difference(
                [refs[each].nid for each in agreed], numbers, own_auth, subgraph=subgraph
            )
            assert found is not None
            asked = question({refs[each].event_id for each in agreed}, names_of, subgraph=subgraph)
            assert set(found).difference(*names_of) == by_walking(asked, events)

    async def load(nid: int) -> Event:
        persisted = await here.core.events.one(nid)
        assert persisted is not None
        return persisted.event

    try:
        compare()
    finally:
        runner.run(context.__aexit__(None, None, None))


async def test_every_state_event_is_written_with_its_place_and_messages_without(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        for number in range(3):
            await here.rooms.sending.put_state(alice, room_id, ("m.room.name", ""), {"name": str(number)})
            await here.send(bob, room_id, str(number))
            await here.rooms.membership.leave(bob, room_id)
            await here.rooms.membership.join(bob, room_id)
        async with here.core.db.read() as tx:
            rows = await tx.all(
                "SELECT key_nid IS NOT NULL, sequence, event_nid FROM events ORDER BY event_nid"
            )
            chains = await tx.all(
                "SELECT coalesce(chain, event_nid), count(*), max(sequence) FROM events WHERE sequence > 0 GROUP BY 1"
            )
        assert all((sequence is not None) == is_state for is_state, sequence, _ in rows)
        assert all(events == last for _, events, last in chains), "chains without holes"
        assert max(last for _, _, last in chains) >= 6, "bob's comings and goings are one chain"


async def test_rooms_from_before_the_cover_are_placed_when_branches_meet(
    database: str, tmp_path: Path
) -> None:
    async with process(database, tmp_path) as here:
        alice, bob = await here.user("alice"), await here.user("bob")
        room_id = await here.room(alice, preset="public_chat")
        await here.rooms.membership.join(bob, room_id)
        room = Room(here, room_id, alice.user_id)
        fork = await Fork.of(here, room_id)
        left, right = fork.branch(), fork.branch()
        ban = left.says(alice.user_id, "m.room.member", bob.user_id, {"membership": "ban"})
        named = right.says(alice.user_id, "m.room.name", "", {"name": "x"})
        await forget_places(room, 0, 2**62)
        await receive(here, ban, named)
        known = await here.core.rooms.known(room_id)
        assert known.membership(bob.user_id) == 5
        async with here.core.db.read() as tx:
            unplaced = await tx.column(
                "SELECT event_nid FROM events WHERE key_nid IS NOT NULL AND sequence IS NULL"
            )
        # What is written on top of events without a place has none itself; everything before it has.
        assert len(unplaced) <= 2
