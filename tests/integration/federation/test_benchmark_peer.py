"""The peer of the benchmarks is a server like others: rooms are shared with it in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from benchmarks.peer import VERSION, Meeting, Peer, gone
from benchmarks.remote_rooms import LargeRoom, Seat, batches
from tests.support.federation import Federation
from tests.support.waiting import until


@pytest.fixture
async def peer(federation: Federation) -> AsyncIterator[Peer]:
    meeting = Meeting.meet(federation.certificate)
    made = meeting.peer()
    await made.start()
    yield made
    await made.close()
    await meeting.notary.close()


async def test_what_it_says_arrives_and_it_hears_what_is_said(federation: Federation, peer: Peer) -> None:
    here = await federation.start()
    alice = await here.register("alice")
    room = await alice.create_room(preset="public_chat", room_version=VERSION)
    seat = await Seat.take(peer, here.name, room, "guest")
    events = seat.says(120)
    for batch in batches(events, 50):
        await peer.send(here.name, batch)
    await alice.sees(room, events[-1].event_id)
    sent = await alice.send(room, "hello")
    assert await peer.has_received([sent], 10) == 0


async def test_its_large_rooms_can_be_joined(federation: Federation, peer: Peer) -> None:
    here = await federation.start()
    alice = await here.register("alice")
    room = LargeRoom(peer, 1, 30)
    await room.open()
    await alice.join(room.room_id, via=[peer.name])
    assert len(await alice.members(room.room_id)) == 32
    assert room.answered_at


async def test_it_vouches_for_servers_that_are_gone(federation: Federation) -> None:
    meeting = Meeting.meet(federation.certificate)
    notary = meeting.notary
    await notary.start()
    here = await federation.start(federation={"key_servers": [{"server_name": notary.name}]})
    alice = await here.register("alice")
    room = LargeRoom(notary, 1, 30, home=gone)
    await room.open()
    await alice.join(room.room_id, via=[notary.name])

    async def all_are_there() -> bool:
        return len(await alice.members(room.room_id)) == 32

    await until(all_are_there)
    await notary.close()
