from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.scenario import Scenario, keep_busy, work_off
from benchmarks.wire import Response


class CreateRoom(Scenario):
    """4 people make named private rooms, one after another."""

    name = "create-room"
    title = "Create a room, 4 at a time"
    operation = "room"

    @override
    async def measure(self, meter: Meter) -> None:
        people = await self.stage.people(4, "founder")
        await keep_busy(meter, [partial(self._create, person) for person in people])

    async def _create(self, person: Person) -> Response:
        body = {"preset": "private_chat", "name": "A room of one's own", "topic": "Nothing yet"}
        return await person.connection.succeed(person.request("POST", "/createRoom", body))


class Join(Scenario):
    """10 people join public rooms that somebody has just made, until each room has 11 members."""

    name = "join"
    title = "Join a public room, 10 at a time"
    operation = "join"

    @override
    async def measure(self, meter: Meter) -> None:
        hosts = await self.stage.people(4, "host")
        guests = await self.stage.people(10, "guest")
        rooms_per_host = 2
        while meter.wants_more:
            rooms: list[str] = []
            async with asyncio.TaskGroup() as group:
                for host in hosts:
                    group.create_task(self._open_rooms(host, rooms_per_host, rooms))
            before = meter.open_seconds
            await work_off(meter, [[partial(guest.join, room) for room in rooms] for guest in guests])
            if meter.open_seconds - before < meter.seconds / 4:  # a quick server: make the next batch larger
                rooms_per_host = min(rooms_per_host * 4, 128)

    async def _open_rooms(self, host: Person, number: int, rooms: list[str]) -> None:
        rooms.extend([await host.make_room(preset="public_chat", name="Open house") for _ in range(number)])


class JoinOneByOne(Scenario):
    """People join a public room, one after another, as each of them is known to the server already."""

    name = "join-one-by-one"
    title = "Join a public room, one after another"
    operation = "join"
    by_name_only = True

    @override
    async def prepare(self) -> None:
        self.host = (await self.stage.people(1, "host"))[0]
        self.guests = await self.stage.people(20, "visitor")

    @override
    async def measure(self, meter: Meter) -> None:
        while meter.wants_more:
            room = await self.host.make_room(preset="public_chat", name="Open house")
            await work_off(meter, [self._jobs(self.guests, room)])

    def _jobs(self, guests: list[Person], room: str) -> Iterator[Callable[[], Awaitable[Response]]]:
        return (partial(guest.join, room) for guest in guests)
