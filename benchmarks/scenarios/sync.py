from __future__ import annotations

import asyncio
from functools import partial

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person, next_batch
from benchmarks.scenario import Scenario, keep_busy, work_off
from benchmarks.wire import RequestFailed, Response
from benchmarks.worlds import crowd, many_rooms

FILTER = {"room": {"timeline": {"limit": 20}, "state": {"lazy_load_members": True}}}
"""What Element asks for: 20 events a room, members as they are needed."""


class InitialSync(Scenario):
    """A first /sync of somebody in 200 rooms, each on a device that has just logged in: no answer can be kept from before."""

    name = "initial-sync"
    title = "Initial sync, 200 rooms × 20 events"  # noqa: RUF001  # a multiplication sign
    operation = "sync"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(many_rooms)
        self.filters = [await member.use_filter(FILTER) for member in self.world.members]

    @override
    async def measure(self, meter: Meter) -> None:
        member, filter_id = self.world.members[0], self.filters[0]
        while meter.wants_more:
            devices = [await member.log_in_again() for _ in range(2 if meter.open_seconds == 0 else 8)]
            await work_off(meter, [[partial(self._sync, device, filter_id) for device in devices]])
            for device in devices:
                await device.log_out()

    async def _sync(self, device: Person, filter_id: str) -> Response:
        response = await device.sync(filter_id=filter_id)
        rooms = response.body.count(b'"prev_batch"')
        if rooms < len(self.world.rooms):
            raise RequestFailed(f"an initial sync with {rooms} of {len(self.world.rooms)} rooms")
        return response


class IdleSync(Scenario):
    """/sync with a token after which nothing has happened, by three people in 200 rooms, each on one connection."""

    name = "idle-sync"
    title = "Idle incremental sync, 200 rooms"
    operation = "sync"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(many_rooms)
        self.filters = [await member.use_filter(FILTER) for member in self.world.members]

    @override
    async def measure(self, meter: Meter) -> None:
        workers = []
        for member, filter_id in zip(self.world.members, self.filters, strict=True):
            since = next_batch(await member.sync(filter_id=filter_id))
            since = next_batch(
                await member.sync(filter_id=filter_id, since=since)
            )  # one's own presence has passed
            workers.append(partial(member.sync, since=since, filter_id=filter_id))
        await keep_busy(meter, workers)


class BusySync(Scenario):
    """/sync after 10 messages in a room of 200, by 50 of its members, each once per burst; the sending is not measured."""

    name = "busy-sync"
    title = "Busy incremental sync, 10 new messages"
    operation = "sync"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(crowd)
        self.readers = self.world.members[:50]
        self.filters = await asyncio.gather(*(reader.use_filter(FILTER) for reader in self.readers))
        first = await asyncio.gather(*map(self._first, self.readers, self.filters))
        self.tokens = dict(zip((reader.user_id for reader in self.readers), first, strict=True))

    @override
    async def measure(self, meter: Meter) -> None:
        for reader, filter_id in zip(
            self.readers, self.filters, strict=True
        ):  # what happened since the last round
            await self._catch_up(reader, filter_id)
        speaker = self.world.members[-1]
        everybody = list(zip(self.readers, self.filters, strict=True))
        while meter.wants_more:
            for number in range(10):
                await speaker.say(self.world.room, f"Burst, message {number}")
            lanes = [everybody[lane::5] for lane in range(5)]
            await work_off(meter, [[partial(self._read, *reader) for reader in lane] for lane in lanes])

    async def _first(self, reader: Person, filter_id: str) -> str:
        return next_batch(await reader.sync(filter_id=filter_id))

    async def _catch_up(self, reader: Person, filter_id: str) -> Response:
        response = await reader.sync(since=self.tokens[reader.user_id], filter_id=filter_id)
        self.tokens[reader.user_id] = next_batch(response)
        return response

    async def _read(self, reader: Person, filter_id: str) -> Response:
        response = await self._catch_up(reader, filter_id)
        messages = response.body.count(b"Burst, message ")
        if messages != 10:
            raise RequestFailed(f"{messages} of 10 messages in an incremental sync")
        return response
