"""What other servers send, and what is sent to them. The other side is a peer of the load generator's own (`benchmarks.peer`)."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import quote

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.peer import VERSION, Peer, gone
from benchmarks.people import Person
from benchmarks.remote_rooms import LargeRoom, Seat, batches
from benchmarks.scenario import Scenario
from benchmarks.stage import SETUP_CONCURRENCY, Abroad, at_most
from benchmarks.wire import RequestFailed
from homeserver.events.event import Event

A_SECOND = 200
"""Events for each second that is to be measured: 1 000 in five."""
IN_A_TRANSACTION = 50
"""spec: server-server-api/#transactions"""
PATIENCE = 20.0
"""Seconds for what was sent to arrive."""
SOON, SELDOM = 0.05, 1.0
"""Seconds between looks whether it has."""
_large_rooms = itertools.count()


class Abroads(Scenario):
    """A scenario with other servers."""

    by_name_only: ClassVar[bool] = True

    @property
    def abroad(self) -> Abroad:
        if self.stage.abroad is None:
            raise RequestFailed("other servers are met by what is started here")
        return self.stage.abroad

    async def hosts(self, number: int, role: str) -> list[Person]:
        return await self.stage.people(number, role)


class Inbound(Abroads):
    """A peer sends 200 events for each second of measuring, and all of them arrive."""

    operation = "event"
    rooms: ClassVar[int]
    at_once: ClassVar[int] = IN_A_TRANSACTION
    ahead: ClassVar[int | None] = None
    """How many are sent before the last of them has to be there; None: all, flat out. Of a room in which 100 wait Synapse forgets
    all but the last (`prune_staged_events_in_room`, 1.163), and would have to be sent them again: none of them arrived.
    """

    @override
    async def prepare(self) -> None:
        (self.peer,) = await self.abroad.peers(1)
        (self.host,) = await self.hosts(1, "host")
        self.seats: list[Seat] = []

        async def furnish(number: int) -> None:
            host = self.host.another_connection()
            room = await host.make_room(preset="public_chat", name=f"Shared {number}", room_version=VERSION)
            host.connection.close()
            self.seats.append(await Seat.take(self.peer, self.abroad.server, room, f"guest{number}"))

        count = self.stage.scaled(self.rooms) if self.rooms > 1 else 1
        await at_most(SETUP_CONCURRENCY, (furnish(number) for number in range(count)))

    @override
    async def measure(self, meter: Meter) -> None:
        each = max(1, round(A_SECOND * meter.seconds) // len(self.seats))
        said = [seat.says(each) for seat in self.seats]
        # In the order in which they would have been said.
        events = [event for moment in zip(*said, strict=True) for event in moment]
        self.looks = 0
        async with meter.window():
            for stretch in batches(events, self.ahead or len(events)):
                for batch in batches(stretch, self.at_once):
                    seconds = await self.peer.send(self.abroad.server, batch)
                    for _ in batch:
                        meter.record(seconds)
                last = {event.room_id: event for event in stretch}
                until = time.perf_counter() + PATIENCE
                for event in last.values():
                    await self._arrived(event, until)
        meter.notes["looks, whether they are there"] = self.looks
        missing = [event for event in events if not await self._is_here(event)]
        meter.notes["sent"] = len(events)
        meter.notes["arrived"] = len(events) - len(missing)

    async def _arrived(self, event: Event, until: float) -> None:
        """Looks again after a while, and then less and less often: what looking costs is measured with the rest."""
        pause = SOON
        while not await self._is_here(event) and time.perf_counter() < until:
            await asyncio.sleep(pause)
            pause = min(2 * pause, SELDOM)

    async def _is_here(self, event: Event) -> bool:
        self.looks += 1
        path = f"/rooms/{quote(event.room_id)}/event/{quote(event.event_id)}"
        return (await self.host.connection.send(self.host.request("GET", path))).status == 200


class InboundOneRoom(Inbound):
    """… in one room, 50 in a transaction, flat out."""

    name = "inbound-one-room"
    title = "From another server, one room, 50 events at once"
    rooms = 1


class InboundInTurn(InboundOneRoom):
    """… in one room, 50 in a transaction, the next when they are there."""

    name = "inbound-in-turn"
    title = "From another server, one room, 50 events at once, then the next"
    ahead = IN_A_TRANSACTION


class InboundManyRooms(Inbound):
    """… over 100 rooms, 50 in a transaction, flat out."""

    name = "inbound-many-rooms"
    title = "From another server, over 100 rooms, 50 events at once"
    rooms = 100


class InboundSingly(Inbound):
    """… in one room, each in a transaction of its own; after 50 of them the next when they are there."""

    name = "inbound-singly"
    title = "From another server, one room, one event at a time"
    rooms = 1
    at_once = 1
    ahead = 50


class Outbound(Abroads):
    """10 people speak flat out in a room with users of 20 other servers, until all of these have all of it."""

    name = "outbound-20"
    title = "Send to one room, received by 20 other servers"
    operation = "message"
    destinations = 20

    @override
    async def prepare(self) -> None:
        self.peers = await self.abroad.peers(self.destinations)
        self.speakers = await self.hosts(10, "herald")
        self.room = await self.speakers[0].make_room(
            preset="public_chat", name="Abroad", room_version=VERSION
        )
        for person in self.speakers[1:]:
            await person.join(self.room)
        for number, peer in enumerate(self.peers):
            await Seat.take(peer, self.abroad.server, self.room, f"listener{number}")

    @override
    async def measure(self, meter: Meter) -> None:
        sent: list[str] = []
        numbers = iter(range(round(A_SECOND * meter.seconds)))

        async def speak(person: Person) -> None:
            for _ in numbers:
                answer = await person.say(self.room)
                sent.append(answer.json()["event_id"])
                meter.record(answer.seconds)

        async with meter.window():
            async with asyncio.TaskGroup() as group:
                for person in self.speakers:
                    group.create_task(speak(person))
            missing = await _all_received(self.peers, sent)
        meter.notes["sent"] = len(sent) * len(self.peers)
        meter.notes["arrived"] = len(sent) * len(self.peers) - missing


class JoinLarge(Abroads):
    """Somebody joins a room of another server; it has answered when they ask. Each join is of a room of its own."""

    operation = "join"
    members: ClassVar[int]

    @override
    async def prepare(self) -> None:
        (self.peer,) = await self.abroad.peers(1)
        (self.person,) = await self.hosts(1, "traveller")

    @override
    async def measure(self, meter: Meter) -> None:
        warming = meter.seconds <= 1
        members = 50 if warming else self.stage.scaled(self.members)
        room = LargeRoom(self.peer, next(_large_rooms), members)
        await room.open()
        path = f"/join/{quote(room.room_id)}?server_name={self.peer.name}&via={self.peer.name}"
        async with meter.window():
            await self.person.connection.succeed(self.person.request("POST", path, {}))
            meter.record(time.perf_counter() - room.answered_at)
        room.close()


class JoinTwoThousand(JoinLarge):
    """… of 2 000 members."""

    name = "join-2000"
    title = "Join another server's room of 2 000"
    members = 2_000


class JoinTwentyThousand(JoinLarge):
    """… of 20 000 members."""

    name = "join-20000"
    title = "Join another server's room of 20 000"
    members = 20_000


class CatchUp(Abroads):
    """A server that was away for 2 000 messages for each second of measuring, in 20 rooms, is back."""

    name = "catch-up"
    title = "Another server comes back after 10 000 events in 20 rooms"
    operation = "event"
    longest = 600.0  # what it has missed has to be written first
    rooms = 20

    @override
    async def prepare(self) -> None:
        self.peer = self.abroad.meeting.peer()
        await self.peer.start()
        self.speakers = await self.hosts(self.rooms, "writer")
        self.homes: list[tuple[Person, str]] = []
        for number, person in enumerate(self.speakers):
            room = await person.make_room(preset="public_chat", name=f"Log {number}", room_version=VERSION)
            await Seat.take(self.peer, self.abroad.server, room, f"reader{number}")
            self.homes.append((person, room))

    @override
    async def measure(self, meter: Meter) -> None:
        await self.peer.stop()
        each = self.stage.scaled(round(10 * A_SECOND * meter.seconds) // self.rooms)
        last: list[str] = []

        async def write(person: Person, room: str) -> None:
            for _ in range(each):
                answer = await person.say(room)
            last.append(answer.json()["event_id"])

        async with asyncio.TaskGroup() as group:
            for home in self.homes:
                group.create_task(write(*home))
        async with meter.window():
            await self.peer.start()
            began = time.perf_counter()
            await self.peer.send(self.abroad.server, [])  # it is back, and says so
            missing = await self.peer.has_received(last, PATIENCE)
            meter.record(time.perf_counter() - began)
        meter.operations += each * self.rooms - 1
        meter.notes["sent"] = len(last)
        meter.notes["arrived"] = len(last) - missing


class DeadDestinations(Abroads):
    """5 000 servers with users in a room do not answer. A second of doing nothing, before they are there and afterwards."""

    name = "dead-destinations"
    title = "A second of idleness with 5 000 dead destinations"
    operation = "second"
    servers = 5_000

    @override
    async def prepare(self) -> None:
        (self.peer,) = await self.abroad.peers(1)
        (self.person,) = await self.hosts(1, "hermit")
        self.without = await self._idle(10)
        count = self.stage.scaled(self.servers)
        room = LargeRoom(self.peer, next(_large_rooms), count, home=gone)
        await room.open()
        path = f"/join/{quote(room.room_id)}?server_name={self.peer.name}&via={self.peer.name}"
        await self.person.connection.succeed(self.person.request("POST", path, {}))
        await self.person.say(room.room_id)
        await asyncio.sleep(20)
        self.room = room.room_id

    async def _idle(self, seconds: float) -> float:
        """CPU seconds a second."""
        before = self.stage.watched.usage()
        await asyncio.sleep(seconds)
        return (self.stage.watched.usage() - before).total / seconds

    @override
    async def measure(self, meter: Meter) -> None:
        async with meter.window():
            for _ in range(max(1, round(meter.seconds))):
                await asyncio.sleep(1)
                meter.record(1)
        meter.notes["idle without them, ms of CPU a second"] = self.without * 1000


async def _all_received(peers: Sequence[Peer], sent: Sequence[str]) -> int:
    """How many have not arrived, of all peers, when there is no more patience."""
    return sum(await asyncio.gather(*(peer.has_received(sent, PATIENCE) for peer in peers)))
