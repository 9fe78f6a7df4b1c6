"""Another server has let us in and sends what happens in the room, while we are still busy with what it answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from federation.handshakes.under_way import JoinsUnderWay
from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom, Told
from tests.support.remote_server import RemoteServer
from tests.support.server import Server


class Sent:
    """A message that is sent before the answer to the join, and what is answered to it."""

    def __init__(self, here: Server, room: RemoteRoom) -> None:
        self.room = room
        self._here = here
        self._answer: asyncio.Task[tuple[int, Any]] | None = None
        self.event_id = ""

    async def first(self, told: Told) -> Told:
        """Sends it, and gives it time to arrive: where the machine is slow, it arrives later, which must be as good."""
        event = self.room.send("m.room.message", {"msgtype": "m.text", "body": "welcome"})
        self.event_id = event.event_id
        body = {"origin": self.room.remote.name, "origin_server_ts": 1, "pdus": [dict(event.fields)]}
        sending = self.room.remote.ask(self._here, "PUT", "/_matrix/federation/v1/send/1", body)
        self._answer = asyncio.create_task(sending)
        await asyncio.sleep(0.2)
        return told

    async def answer(self) -> Any:
        """What was said of it; None: nothing, since without the room its id is not known."""
        assert self._answer is not None
        status, told = await self._answer
        assert status == 200
        return told["pdus"].get(self.event_id)


def joined_room(here: Server, remote: RemoteServer) -> Sent:
    room = RemoteRoom(remote, "10")
    room.serves()
    sent = Sent(here, room)
    room.answer = sent.first
    return sent


async def test_it_waits_for_the_join_and_is_taken(federation: Federation) -> None:
    """FED-09, FED-20: nobody sends it again, and nothing may follow it that would show the gap."""
    here, remote = await federation.start(), await federation.remote()
    sent = joined_room(here, remote)
    anna = await here.register("anna")
    await anna.join(sent.room.name, via=[remote.name])
    assert await sent.answer() == {}
    await anna.sees(sent.room.name, sent.event_id)


async def test_it_is_refused_where_the_join_fails(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    sent = joined_room(here, remote)

    async def nothing(told: Told) -> Told:
        return {**await sent.first(told), "state": []}

    sent.room.answer = nothing
    anna = await here.register("anna")
    await anna.join(sent.room.name, via=[remote.name], expect=(502, "M_UNKNOWN"))
    assert await sent.answer() is None


async def test_few_wait_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("federation.handshakes.under_way.MAX_WAITING", 1)
    joins = JoinsUnderWay()
    room, other = "!a:one.example", "!b:one.example"
    with joins.of(room):
        assert not await joins.ended([other])
        first = asyncio.create_task(joins.ended([room, other]))
        await asyncio.sleep(0)
        assert not await joins.ended([room])
        assert not first.done()
    assert await first
    assert not await joins.ended([room])
    monkeypatch.setattr("federation.handshakes.under_way.SECONDS", 0.01)
    with joins.of(room):
        assert await joins.ended([room])
