"""Simplified sliding sync (MSC4186), beside `/v3/sync`: the same rooms, the same news."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import Person
from benchmarks.scenario import Scenario, keep_busy, work_off
from benchmarks.scenarios.sync import BURST
from benchmarks.wire import RequestFailed, Response
from benchmarks.worlds import ManyRooms, account, crowd, many_rooms

PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
_POS = re.compile(rb'"pos":\s*"([^"]+)"')
STATE = [
    *([kind, ""] for kind in ("m.room.create", "m.room.name", "m.room.topic", "m.room.avatar")),
    *([kind, ""] for kind in ("m.room.encryption", "m.room.power_levels", "m.room.canonical_alias")),
    ["m.room.member", "$LAZY"],
    ["m.room.member", "$ME"],
]
EXTENSIONS = {name: {"enabled": True} for name in ("account_data", "receipts", "typing")}


def wish(rooms: int, events: int) -> dict[str, Any]:
    """What Element X asks for, roughly."""
    wanted = {"ranges": [[0, rooms - 1]], "timeline_limit": events, "required_state": STATE}
    return {"conn_id": "bench", "lists": {"all": wanted}, "extensions": EXTENSIONS}


@dataclass
class Connection:
    """A device that follows by sliding sync."""

    person: Person
    body: Mapping[str, Any]
    pos: str = ""

    async def peek(self, *, timeout: int = 0) -> Response:
        """What is new, without moving on."""
        query = f"?timeout={timeout}" + (f"&pos={self.pos}" if self.pos else "")
        request = self.person.target.request("POST", PATH + query, token=self.person.token, body=self.body)
        return await self.person.connection.succeed(request)

    async def catch_up(self) -> None:
        """Read until there is nothing new."""
        for _ in range(3):
            found = _POS.search((await self.peek()).body)
            if found is None:
                raise RequestFailed("an answer of sliding sync without pos")
            self.pos = found[1].decode()


class _First(Scenario):
    """A connection begins. Nothing of it can be kept from before: each has a device that has just logged in."""

    operation = "slidingSync"
    rooms: int
    """In the window; fewer where the world has fewer."""

    @override
    async def prepare(self) -> None:
        self.world = await self._world()

    async def _world(self) -> ManyRooms:
        return await self.stage.world(many_rooms)

    @override
    async def measure(self, meter: Meter) -> None:
        member = self.world.members[0]
        while meter.wants_more:
            devices = [await member.log_in_again() for _ in range(2 if meter.open_seconds == 0 else 8)]
            await work_off(meter, [[partial(self._sync, device) for device in devices]])
            for device in devices:
                await device.log_out()

    async def _sync(self, device: Person) -> Response:
        response = await Connection(device, wish(self.rooms, 1)).peek()
        wanted = min(self.rooms, len(self.world.rooms))
        if (found := response.body.count(b'"prev_batch"')) < wanted:
            raise RequestFailed(f"a first window with {found} of {wanted} rooms")
        return response


class SlidingWindow(_First):
    """The first 20 rooms of 200, one event each."""

    name = "sliding-window"
    title = "Sliding sync, first 20 rooms of 200"
    rooms = 20


class SlidingAll(_First):
    """All 200 rooms, one event each."""

    name = "sliding-all"
    title = "Sliding sync, all of 200 rooms"
    rooms = 200


class SlidingLarge(SlidingWindow):
    """The first 20 rooms of an account with 1 000, one event each. Takes Synapse minutes to make."""

    name = "sliding-large"
    title = "Sliding sync, first 20 rooms of 1 000"
    by_name_only = True

    @override
    async def _world(self) -> ManyRooms:
        return await self.stage.world(account)


class IdleSliding(Scenario):
    """After the last position nothing has happened, of three people in 200 rooms."""

    name = "sliding-idle"
    title = "Idle sliding sync, 200 rooms"
    operation = "slidingSync"

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(many_rooms)
        self.readers = [Connection(member, wish(200, 1)) for member in world.members]

    @override
    async def measure(self, meter: Meter) -> None:
        for reader in self.readers:
            await reader.catch_up()
        await keep_busy(meter, [partial(reader.peek) for reader in self.readers])


class BusySliding(Scenario):
    """After 10 messages in a room of 200, by 50 of its members, 5 at a time; the sending is not measured."""

    name = "sliding-busy"
    title = "Busy sliding sync, 10 new messages"
    operation = "slidingSync"

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(crowd)
        self.speaker, self.room = world.members[-1], world.room
        self.readers = [Connection(member, wish(20, 20)) for member in world.members[:50]]

    @override
    async def measure(self, meter: Meter) -> None:
        while meter.wants_more:
            for reader in self.readers:
                await reader.catch_up()
            for number in range(BURST):
                await self.speaker.say(self.room, f"Burst, message {number}")
            await work_off(meter, [self._lane(self.readers[lane::5]) for lane in range(5)])

    def _lane(self, readers: list[Connection]) -> list[partial[Coroutine[Any, Any, Response]]]:
        return [partial(self._read, reader, timeout) for timeout in range(8) for reader in readers]

    async def _read(self, reader: Connection, timeout: int) -> Response:
        response = await reader.peek(timeout=timeout)
        if (messages := response.body.count(b"Burst, message ")) != BURST:
            raise RequestFailed(f"{messages} of {BURST} messages in a sliding sync")
        return response


class IdleLarge(IdleSliding):
    """The same of an account with 1 000 rooms, on three devices, of which each follows the first 20."""

    name = "sliding-large-idle"
    title = "Idle sliding sync, account with 1 000 rooms"
    by_name_only = True

    @override
    async def prepare(self) -> None:
        owner = (await self.stage.world(account)).members[0]
        devices = [await owner.log_in_again() for _ in range(3)]
        self.readers = [Connection(device, wish(20, 1)) for device in devices]


class BusyLarge(BusySliding):
    """The same of an account with 1 000 rooms, on five devices: after 10 messages of somebody else in one of them."""

    name = "sliding-large-busy"
    title = "Busy sliding sync, account with 1 000 rooms"
    by_name_only = True

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(account)
        owner = world.members[0]
        [self.speaker] = await self.stage.people(1, "caller")
        self.room = world.rooms[0]
        await owner.call("POST", f"/rooms/{quote(self.room)}/invite", {"user_id": self.speaker.user_id})
        await self.speaker.join(self.room)
        devices = [await owner.log_in_again() for _ in range(5)]
        self.readers = [Connection(device, wish(20, 20)) for device in devices]
