from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.reader import ELEMENT_FILTER, Reader
from benchmarks.scenario import Scenario, keep_busy, work_off
from benchmarks.wire import RequestFailed, Response
from benchmarks.worlds import crowd, many_rooms

BURST = 10


class InitialSync(Scenario):
    """A first /sync of somebody in 200 rooms, each on a device that has just logged in: no answer can be kept from before."""

    name = "initial-sync"
    title = "Initial sync, 200 rooms × 20 events"  # noqa: RUF001  # a multiplication sign
    operation = "sync"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(many_rooms)
        self.filter_id = await self.world.members[0].use_filter(ELEMENT_FILTER)

    @override
    async def measure(self, meter: Meter) -> None:
        member = self.world.members[0]
        while meter.wants_more:
            devices = [await member.log_in_again() for _ in range(2 if meter.open_seconds == 0 else 8)]
            await work_off(meter, [[partial(self._sync, device) for device in devices]])
            for device in devices:
                await device.log_out()

    async def _sync(self, device: Person) -> Response:
        response = await device.sync(filter_id=self.filter_id)
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
        world = await self.stage.world(many_rooms)
        self.readers = [await Reader.begin(member) for member in world.members]

    @override
    async def measure(self, meter: Meter) -> None:
        for reader in self.readers:
            await reader.catch_up()
        await keep_busy(meter, [partial(self._read, reader) for reader in self.readers])

    async def _read(self, reader: Reader) -> Response:
        return await reader.peek()


class BusySync(Scenario):
    """/sync after 10 messages in a room of 200, by 50 of its members, 5 at a time; the sending is not measured.

    Several devices of a member read the same: as many times as it takes to keep the server busy for a while.
    """

    name = "busy-sync"
    title = "Busy incremental sync, 10 new messages"
    operation = "sync"

    @override
    async def prepare(self) -> None:
        self.world = await self.stage.world(crowd)
        self.readers = [await Reader.begin(member) for member in self.world.members[:50]]

    @override
    async def measure(self, meter: Meter) -> None:
        speaker = self.world.members[-1]
        devices = 2
        while meter.wants_more:
            for reader in self.readers:
                await reader.catch_up()
            for number in range(BURST):
                await speaker.say(self.world.room, f"Burst, message {number}")
            before = meter.open_seconds
            await work_off(meter, [self._lane(self.readers[lane::5], devices) for lane in range(5)])
            if meter.open_seconds - before < meter.seconds / 4:  # a quick server: read more of each burst
                devices = min(devices * 4, 128)

    def _lane(self, readers: list[Reader], devices: int) -> list[partial[Coroutine[Any, Any, Response]]]:
        # The timeout does not matter when there is news. It differs, lest the second device gets the answer that
        # Synapse has kept from the first.
        return [partial(self._read, reader, timeout) for timeout in range(devices) for reader in readers]

    async def _read(self, reader: Reader, timeout: int) -> Response:
        response = await reader.peek(timeout=timeout)
        messages = response.body.count(b"Burst, message ")
        if messages != BURST:
            raise RequestFailed(f"{messages} of {BURST} messages in an incremental sync")
        return response
