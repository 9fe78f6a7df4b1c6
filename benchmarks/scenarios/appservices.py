"""What application services are told, and how late. The service is one of the load generator's own (`benchmarks.bot`)."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import quote

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.scenarios.federation import Abroads
from benchmarks.stage import SETUP_CONCURRENCY, at_most

SENDERS = 30
RATE = 300.0
"""Messages a second, of all senders together."""
PATIENCE = 20.0
"""Seconds for what was sent to arrive."""


class AppserviceLag(Abroads):
    """30 people say 300 messages a second, each in a room that a bot is in. Latency is from the answer to a send to the arrival of
    its transaction at the bot; 0 where the transaction was faster.
    """

    name = "appservice-lag"
    title = "To an application service, 300 events/s in 30 rooms"
    operation = "message"

    @override
    async def prepare(self) -> None:
        bot = self.bot = self.abroad.meeting.bot
        await bot.start()
        self.people = await self.stage.people(SENDERS, "talker")
        self.rooms: dict[str, str] = {}

        async def furnish(person: Person) -> None:
            room = await person.make_room(preset="public_chat", name=f"Room of {person.user_id}")
            await person.connection.succeed(bot.joins(self.stage.target, quote(room)))
            self.rooms[person.user_id] = room

        await at_most(SETUP_CONCURRENCY, (furnish(person) for person in self.people))

    @override
    async def measure(self, meter: Meter) -> None:
        self.answered: dict[str, float] = {}
        self.bot.received.clear()
        self.bot.transactions = 0
        async with meter.window():
            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number, person in enumerate(self.people):
                    group.create_task(self._talk(person, started + number / RATE, meter.seconds))
            sending = time.perf_counter() - started
            while self._missing() and time.perf_counter() < started + sending + PATIENCE:  # noqa: ASYNC110  # only asked at the end
                await asyncio.sleep(0.05)
        received = self.bot.received
        meter.latencies = [
            max(0.0, received[event_id] - at)
            for event_id, at in self.answered.items()
            if event_id in received
        ]
        meter.operations = len(self.answered)
        meter.open_seconds = sending
        meter.notes["undelivered"] = self._missing()
        meter.notes["transactions"] = self.bot.transactions

    def _missing(self) -> int:
        return len(self.answered.keys() - self.bot.received.keys())

    async def _talk(self, person: Person, first: float, seconds: float) -> None:
        interval = len(self.people) / RATE
        due = first
        while due < first + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() > first + seconds:
                break
            response = await person.say(self.rooms[person.user_id])
            self.answered[response.json()["event_id"]] = time.perf_counter()
            due += interval
