"""Events whose state is not known are judged by their auth events and stored (FED-10 step 4, FED-12, FED-14)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from homeserver.graph.interning import RoomIdentity
from homeserver.graph.refs import OUTLIER, REJECTED
from homeserver.graph.state.auth_cover import AuthCover
from homeserver.graph.write.receive import MissingEvents
from homeserver.matrix.ids import EventId
from tests.support.auth_graph import by_walking, question
from tests.support.factory import ALICE, BOB, CAROL, DAVE, RoomFactory
from tests.support.graph import Process, process


async def known_room(here: Process, room: RoomFactory) -> RoomIdentity:
    """A number for a room whose events come from elsewhere."""
    nid = await here.core.interning.new_room_nid()
    async with here.core.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO rooms (room_nid, room_id, version, extremities, depth, state_nid, state_height)"
            " VALUES (%(nid)s, %(id)s, %(version)s, '{}', 0, 0, 0)",
            nid=nid,
            id=room.room_id,
            version=room.version.id,
        )
    return RoomIdentity(nid, room.room_id, room.version)


async def flags_of(here: Process, event_id: EventId) -> int | None:
    persisted = await here.core.events.by_id(event_id)
    return persisted.flags if persisted is not None else None


def drawn(version: str) -> RoomFactory:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL)
    room.power_levels(users={BOB: 50})
    room.member(CAROL, "ban", by=BOB)
    room.join(DAVE)
    return room


@pytest.mark.parametrize("version", ["1", "3", "6", "11", "12"])
async def test_outliers_are_stored_in_any_order(database: str, tmp_path: Path, version: str) -> None:
    room = drawn(version)
    async with process(database, tmp_path) as here:
        name = await known_room(here, room)
        await here.core.outliers.add(name, list(reversed(room.events.values())))
        for event in room.events.values():
            persisted = await here.core.events.by_id(event.event_id)
            assert persisted is not None
            assert persisted.flags == OUTLIER
            assert persisted.nid < 0
            assert persisted.event.pdu == event.pdu


async def test_what_its_auth_events_do_not_allow_is_rejected(database: str, tmp_path: Path) -> None:
    room = drawn("12")
    theft = room.draft_power_levels(by=DAVE, users={DAVE: 100})
    follows = room.draft_member(CAROL, "leave", by=DAVE, auth=[theft.event_id, *theft.auth_event_ids])
    async with process(database, tmp_path) as here:
        name = await known_room(here, room)
        await here.core.outliers.add(name, list(room.events.values()))
        await here.core.outliers.add(name, [theft])
        assert await flags_of(here, theft.event_id) == OUTLIER | REJECTED
        # What rests on a rejected event is rejected: also if that one came earlier (FED-12).
        await here.core.outliers.add(name, [follows])
        assert await flags_of(here, follows.event_id) == OUTLIER | REJECTED


async def test_missing_auth_events_are_named_and_nothing_is_stored(database: str, tmp_path: Path) -> None:
    room = drawn("12")
    events = [event for event in room.events.values() if event.key != ("m.room.member", BOB)]
    async with process(database, tmp_path) as here:
        name = await known_room(here, room)
        with pytest.raises(MissingEvents) as missing:
            await here.core.outliers.add(name, events)
        bob = next(event for event in room.events.values() if event.key == ("m.room.member", BOB))
        assert missing.value.event_ids == [bob.event_id]
        assert await flags_of(here, events[0].event_id) is None


async def test_events_of_another_room_are_refused(database: str, tmp_path: Path) -> None:
    room, other = drawn("11"), drawn("12")
    async with process(database, tmp_path) as here:
        name = await known_room(here, room)
        with pytest.raises(ValueError, match="another room"):
            await here.core.outliers.add(name, list(other.events.values()))


async def test_the_same_outliers_at_once_are_stored_once(database: str, tmp_path: Path) -> None:
    room = drawn("12")
    async with process(database, tmp_path) as here:
        name = await known_room(here, room)
        events = list(room.events.values())
        await asyncio.gather(*(here.core.outliers.add(name, events) for _ in range(5)))
        async with here.core.db.read() as tx:
            count = await tx.value("SELECT count(*) FROM events WHERE room_nid = %(nid)s", nid=name.nid)
        assert count == len(events)


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_outliers_have_places_in_the_chain_cover(database: str, tmp_path: Path, size: int) -> None:
    room = drawn("11")
    for number in range(30):
        room.join(f"@user{number}:{number % 3}.example")
    room.member("@user3:0.example", "ban", by=BOB)
    events = list(room.events.values())
    async with process(database, tmp_path) as here:
        name = await known_room(here, room)
        for start in range(0, len(events), size):
            await here.core.outliers.add(name, events[start : start + size])
        numbers = await here.core.events.numbers([event.event_id for event in events])
        sides = [{events[-1].event_id}, {events[-5].event_id, events[6].event_id}]
        common = [event.event_id for event in events[:3]]
        cover = AuthCover(here.core.db, here.core.events)
        found = await cover.difference(
            [numbers[each] for each in common],
            [[numbers[each] for each in side] for side in sides],
            (),
            subgraph=False,
        )
        asked = question(common, sides)
        assert found is not None
        assert set(found).difference(*sides) == by_walking(asked, room.events)
        async with here.core.db.read() as tx:
            assert not await tx.value(
                "SELECT count(*) FROM events WHERE room_nid = %(nid)s AND sequence IS NULL", nid=name.nid
            )


async def test_events_that_rest_on_themselves_are_rejected(database: str, tmp_path: Path) -> None:
    """Servers choose the ids of versions 1 and 2, and so can say such a thing."""
    room = RoomFactory.public("1")
    join = {"membership": "join"}
    first = room.draft(
        "m.room.member", join, by=BOB, key=BOB, auth=[EventId("$a:two.example")], event_id="$b:two.example"
    )
    second = room.draft(
        "m.room.member", join, by=DAVE, key=DAVE, auth=[first.event_id], event_id="$a:two.example"
    )
    async with process(database, tmp_path) as here:
        name = await known_room(here, room)
        await here.core.outliers.add(name, [*room.events.values(), first, second])
        assert await flags_of(here, first.event_id) == OUTLIER | REJECTED
        assert await flags_of(here, second.event_id) == OUTLIER | REJECTED
        assert await flags_of(here, room.create.event_id) == OUTLIER
        assert room.creator == ALICE
