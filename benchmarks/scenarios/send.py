from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.scenario import Scenario, keep_busy
from benchmarks.stage import SETUP_CONCURRENCY, at_most
from benchmarks.wire import Response


class SendToOneRoom(Scenario):
    """10 people speak in the room they share, each as fast as the server answers; nobody listens."""

    name = "send-one-room"
    title = "Send to one room, 10 senders"
    operation = "message"

    @override
    async def prepare(self) -> None:
        self.senders = await self.stage.people(10, "speaker")
        self.room = await self.senders[0].make_room(preset="public_chat", name="Debate")
        for person in self.senders[1:]:
            await person.join(self.room)

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(meter, [partial(person.say, self.room) for person in self.senders])


class SendToManyRooms(Scenario):
    """32 people speak in 100 rooms; two of them are in each room, and each goes round all rooms they are in."""

    name = "send-many-rooms"
    title = "Send over 100 rooms, 32 senders"
    operation = "message"

    @override
    async def prepare(self) -> None:
        self.senders = await self.stage.people(32, "talker")
        homes: dict[str, list[str]] = {person.user_id: [] for person in self.senders}

        async def furnish(number: int) -> None:
            one, other = (self.senders[(number + step) % len(self.senders)] for step in (0, 1))
            host, guest = one.another_connection(), other.another_connection()
            room = await host.make_room(preset="public_chat", name=f"Desk {number}")
            await guest.join(room)
            homes[one.user_id].append(room)
            homes[other.user_id].append(room)
            for person in (host, guest):
                person.connection.close()

        rooms = self.stage.scaled(100, least=len(self.senders))
        await at_most(SETUP_CONCURRENCY, (furnish(number) for number in range(rooms)))
        self.rounds = [(person, itertools.cycle(homes[person.user_id])) for person in self.senders]

    @override
    async def measure(self, meter: Meter) -> None:
        await keep_busy(meter, [partial(self._speak, person, rooms) for person, rooms in self.rounds])

    async def _speak(self, person: Person, rooms: Iterator[str]) -> Response:
        return await person.say(next(rooms))
