"""What a hostile server sends, flat out: what each thing costs before it is refused, or kept, and how long somebody here waits
for a message of their own meanwhile. What is told to come again later has cost something, and has not arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.peer import KEY, VERSION, ComeBack
from benchmarks.remote_rooms import Seat
from benchmarks.scenarios.federation import IN_A_TRANSACTION, Abroads
from homeserver.events.event import Event
from homeserver.matrix.signing import SigningKey

EDUS = 100
"""In a transaction. spec: server-server-api/#transactions"""
BESIDE = 0.05
"""Seconds between messages of somebody here."""


class Hostile(Abroads):
    """Eight transactions at a time; latencies are of messages that somebody here sends beside."""

    operation = "thing"
    at_a_time: ClassVar[int] = 8

    @override
    async def prepare(self) -> None:
        (self.peer,) = await self.abroad.peers(1)
        (self.host,) = await self.hosts(1, "besieged")
        self.room = await self.host.make_room(preset="public_chat", name="Besieged", room_version=VERSION)
        self.own = await self.host.make_room(preset="private_chat", name="Own")
        self.seat = await Seat.take(self.peer, self.abroad.server, self.room, "enemy")
        self.numbers = itertools.count()

    def events(self) -> Sequence[Event]:
        """Of the next transaction."""
        return []

    def edus(self) -> Sequence[dict[str, Any]]:
        """Of the next transaction."""
        return []

    @override
    async def measure(self, meter: Meter) -> None:
        before = self.stage.watched.usage().resident_bytes
        deadline = 0.0
        taken = 0

        async def attack() -> None:
            nonlocal taken
            while time.perf_counter() < deadline:
                events, edus = self.events(), self.edus()
                things = len(events) + len(edus)
                meter.operations += things
                with contextlib.suppress(ComeBack):
                    await self.peer.transact(self.abroad.server, events, edus)
                    taken += things

        async def speak() -> None:
            while time.perf_counter() < deadline:
                meter.latencies.append((await self.host.say(self.own)).seconds)
                await asyncio.sleep(BESIDE)

        async with meter.window(), asyncio.TaskGroup() as group:
            deadline = time.perf_counter() + meter.seconds
            group.create_task(speak())
            for _ in range(self.at_a_time):
                group.create_task(attack())
        after = self.stage.watched.usage().resident_bytes
        meter.notes["sent"] = meter.operations
        meter.notes["arrived"] = taken
        meter.notes["MB more, all rounds"] = max(0, after - before) / 1e6


class Forged(Hostile):
    """Messages in the server's room that somebody else has signed."""

    name = "hostile-forged"
    title = "Forged signatures"

    @override
    def events(self) -> Sequence[Event]:
        return self.seat.says(IN_A_TRANSACTION, key=SigningKey(os.urandom(32), KEY))


class UnknownRooms(Hostile):
    """Messages in rooms in which nobody here is."""

    name = "hostile-unknown-rooms"
    title = "Rooms nobody is in"

    @override
    def events(self) -> Sequence[Event]:
        room = f"!{next(self.numbers)}:{self.peer.name}"
        return self.seat.elsewhere(room).says(IN_A_TRANSACTION)


class Gaps(Hostile):
    """Messages on top of events that nobody has."""

    name = "hostile-gaps"
    title = "Gaps that nobody can fill"

    @override
    def events(self) -> Sequence[Event]:
        return [self.seat.on_top_of(_id()) for _ in range(IN_A_TRANSACTION)]


class Extremities(Hostile):
    """Messages all on top of the same one: each is a new end of the room's graph."""

    name = "hostile-extremities"
    title = "Ends of a room's graph"

    @override
    def events(self) -> Sequence[Event]:
        return [self.seat.on_top_of(self.seat.joined) for _ in range(IN_A_TRANSACTION)]


class EduFlood(Hostile):
    """A hundred EDUs of one type in a transaction."""

    edu_type: ClassVar[str]

    @override
    def edus(self) -> Sequence[dict[str, Any]]:
        return [{"edu_type": self.edu_type, "content": self.content(next(self.numbers))} for _ in range(EDUS)]

    def content(self, number: int) -> dict[str, Any]:
        """Of one of them; no two have the same number."""
        raise NotImplementedError


class ForeignTyping(EduFlood):
    """Users of other servers typing in rooms of which half are unknown."""

    name = "hostile-typing"
    title = "EDUs about users of others"
    edu_type = "m.typing"

    @override
    def content(self, number: int) -> dict[str, Any]:
        return {
            "room_id": self.room if number % 2 else f"!{number}:{self.peer.name}",
            "user_id": f"@{number}:elsewhere.example",
            "typing": True,
        }


class DeviceFlood(EduFlood):
    """New devices of a user who is in a room of the server's."""

    name = "hostile-devices"
    title = "Device list updates"
    edu_type = "m.device_list_update"

    @override
    def content(self, number: int) -> dict[str, Any]:
        return {
            "user_id": self.seat.user,
            "device_id": f"D{number}",
            "stream_id": number + 1,
            "prev_id": [number],
            "deleted": True,
        }


class ToDeviceFlood(EduFlood):
    """Messages to all devices of somebody here, who never reads them."""

    name = "hostile-to-device"
    title = "To-device messages"
    edu_type = "m.direct_to_device"

    @override
    def content(self, number: int) -> dict[str, Any]:
        return {
            "sender": self.seat.user,
            "type": "m.dummy",
            "message_id": f"m{number}",
            "messages": {self.host.user_id: {"*": {"body": "x" * 500}}},
        }


def _id() -> str:
    """Of an event that nobody has."""
    return "$" + os.urandom(32).hex()[:43]
