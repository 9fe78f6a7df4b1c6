from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import ClassVar

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.reader import Reader
from benchmarks.scenario import Scenario, work_off
from benchmarks.wire import Response
from benchmarks.worlds import many_rooms

LAPS = 12
REQUESTS = 10_000
"""In each lap."""
PEOPLE = 30


class Soak(Scenario):
    """Twelve laps of 10 000 requests, whatever the seconds: 30 people send to 200 rooms, and each tenth time read what is new.
    What counts is the memory of the largest process after each lap: it has to end growing.
    """

    name = "soak"
    title = "Soak, 120 000 requests"
    by_name_only: ClassVar[bool] = True

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(many_rooms)
        self.rooms = world.rooms
        people = await self.stage.people(PEOPLE, "soaker")
        for number, person in enumerate(people):
            for room in self.rooms[number::PEOPLE]:
                await person.join(room)
        self.readers = [await Reader.begin(person) for person in people]
        self.turns = 0

    @override
    async def measure(self, meter: Meter) -> None:
        self.turns += 1
        if self.turns != 2:  # the first is the one that warms up; one round is long enough
            return
        requests = self.stage.scaled(REQUESTS)
        sizes: list[float] = []
        for _ in range(LAPS):
            lanes = [
                itertools.islice(_deeds(reader, self.rooms[number::PEOPLE]), requests // PEOPLE)
                for number, reader in enumerate(self.readers)
            ]
            await work_off(meter, lanes)
            sizes.append(meter.watched.usage().largest_bytes / 1e6)
        meter.notes.update({f"MB after lap {lap}": size for lap, size in enumerate(sizes, 1)})


def _deeds(reader: Reader, rooms: list[str]) -> Iterator[Callable[[], Awaitable[Response]]]:
    speaker: Person = reader.person
    for number in itertools.count():
        if number % 10 == 9:
            yield reader.read
        else:
            yield partial(speaker.say, rooms[number % len(rooms)])
