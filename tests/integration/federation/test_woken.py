"""An event that waits for another goes on when that comes, by whatever way: nobody waits for the next attempt, which may be in half
an hour, or for a server that drips.
"""

import asyncio
from typing import Any

import pytest

from federation.inbound import held
from federation.inbound.awaited import MAX_WANTED, Awaited
from homeserver.matrix.ids import EventId
from tests.integration.federation.test_send import joined
from tests.support.federation import Federation
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.remote_server import Asked, status
from tests.support.waiting import until

V1 = "/_matrix/federation/v1"
NOBODY = status(404, {"errcode": "M_NOT_FOUND", "error": ""})


@pytest.fixture(autouse=True)
def rare_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "FIRST_PAUSE", 3_600.0)
    monkeypatch.setattr(held, "LONGEST_PAUSE", 3_600.0)


def inbound_of(room: RemoteRoom) -> Any:
    assert room.here.app is not None
    return room.here.app.features.federation_inbound.inbound


async def put_off(room: RemoteRoom, count: int) -> None:
    """Wait until so many staged events are to be tried again in an hour, and nothing is at work."""

    async def waits() -> bool:
        async with room.core.db.read() as tx:
            found = await tx.value("SELECT count(*) FROM federation_staged WHERE retry_at IS NOT NULL")
        return found == count and not inbound_of(room).at_work

    await until(waits, within=60)


async def waiting(federation: Federation, count: int = 3) -> tuple[RemoteRoom, list[Any]]:
    """A chain of Bob's: the first is not to be had, the others are put off."""
    _, _, room = await joined(federation)
    for method in ("GET", "POST"):
        room.remote.answers(method, f"{V1}/*", NOBODY)
    chain = room.chain("bob", count)
    await room.send(*chain[1:])
    await put_off(room, count - 1)
    return room, chain


@pytest.mark.parametrize("way", ["the same server", "another server", "the graph"])
async def test_what_waits_for_a_previous_event_goes_on_when_it_comes(
    federation: Federation, way: str
) -> None:
    """FED-10, FED-14: in a transaction, sent by another server, or received for another reason (a join of ours, say)."""
    room, chain = await waiting(federation)
    if way == "the graph":
        await room.core.receiver.receive(chain[0])
    elif way == "the same server":
        await room.send(chain[0])
    else:
        other = RemoteRoom(room.here, await federation.remote(), room.room_id)
        await other.send(chain[0])
    arrived = await room.arrives(*chain)
    assert [each.flags for each in arrived] == [0] * 3
    await room.drained()


async def test_what_waits_for_an_auth_event_goes_on_when_it_comes(federation: Federation) -> None:
    """FED-14: Carol's join is on a branch that nobody gives out."""
    _, _, room = await joined(federation)
    for method in ("GET", "POST"):
        room.remote.answers(method, f"{V1}/*", NOBODY)
    before = room.tip
    carol = room.says("carol", "m.room.member", {"membership": "join"}, state_key=room.remote.user("carol"))
    event = room.says("carol", "m.room.message", TEXT)
    beside = room.says("bob", "m.room.message", TEXT, prev=[before])
    await room.send(event)
    await put_off(room, 1)
    await room.send(beside)
    await room.arrives(beside)
    assert await room.staged() == 1
    await room.core.receiver.receive(carol)
    (arrived,) = await room.arrives(event)
    assert not arrived.flags
    await room.drained()


async def test_what_another_process_has_put_off_goes_on(federation: Federation) -> None:
    """FED-10: it ended before what was waited for came; also where that came while nobody listened."""
    room, chain = await waiting(federation)
    inbound = inbound_of(room)
    for name in ("_wanted", "_rooms", "_come"):
        getattr(inbound.awaited, name).clear()
    await room.core.receiver.receive(chain[0])
    await room.arrives(*chain)
    await room.drained()


async def test_nobody_waits_for_a_server_that_drips(federation: Federation) -> None:
    """FED-10: what is asked for comes by another way meanwhile."""
    _, _, room = await joined(federation)
    go_on, asked = asyncio.Event(), asyncio.Event()

    async def slow(_: Asked) -> Any:
        asked.set()
        await go_on.wait()
        return NOBODY

    for method in ("GET", "POST"):
        room.remote.answers(method, f"{V1}/*", slow)
    chain = room.chain("bob", 3)
    try:
        await room.send(*chain[1:])
        await asyncio.wait_for(asked.wait(), 60)
        await room.core.receiver.receive(chain[0])
        await room.arrives(*chain)
    finally:
        go_on.set()
    await room.drained()


def test_what_is_remembered_has_a_bound() -> None:
    """FED-10"""
    awaited = Awaited()
    for number in range(30):
        awaited.wait(number, [EventId(f"${number}.{each}") for each in range(MAX_WANTED // 10)])
    assert len(awaited._wanted) == MAX_WANTED
    awaited.keep({28, 29})
    assert awaited.unknown(range(30)) == [*range(28)]
    awaited.reset()
    assert awaited.come(1) == [28]
    assert awaited.come(5) == [29]
    assert awaited.come(5) == []
