from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from typing_extensions import override

from benchmarks.meter import Meter
from benchmarks.people import TEXT, Person
from benchmarks.reader import Reader
from benchmarks.scenario import Scenario
from benchmarks.worlds import crowd

LISTENERS = 50
SENDERS = 10
PATIENCE = 20.0
"""Seconds after the last send in which deliveries still count."""

FILTER = {"room": {"timeline": {"limit": 100}, "state": {"lazy_load_members": True}}}
_posts = itertools.count()


@dataclass
class Post:
    """When each message went off and how long it took to each listener; messages are numbered from 0."""

    listeners: int
    name: int = field(default_factory=lambda: next(_posts))
    sent: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    _all_there: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._pattern = re.compile(rb"delivery-%d-(\d+)-" % self.name)

    def next_text(self) -> str:
        """What the message that goes off now says."""
        self.sent.append(time.perf_counter())
        return f"delivery-{self.name}-{len(self.sent) - 1}- {TEXT}"

    def arrived(self, body: bytes) -> None:
        """Take note of the messages in a /sync answer."""
        now = time.perf_counter()
        numbers = {int(number) for number in self._pattern.findall(body)}
        self.delays.extend(now - self.sent[number] for number in numbers)
        if len(self.delays) >= len(self.sent) * self.listeners:
            self._all_there.set()

    async def all_arrived(self, patience: float) -> None:
        """Return when every listener has every message, or after `patience` seconds."""
        self._all_there.clear()
        if len(self.delays) < len(self.sent) * self.listeners:
            try:
                async with asyncio.timeout(patience):
                    await self._all_there.wait()
            except TimeoutError:
                return


class FanOut(Scenario):
    """50 of 200 members hold a long-polling /sync each while 10 others speak, 50 messages a second in all.

    A sender who has not been answered by the time of their next message falls behind: a server that cannot keep the
    pace shows it in the messages per second. Latency is from a message's first byte to its arrival at a listener.
    """

    name = "fan-out"
    title = "Fan-out to 50 listeners, 50 sends/s, room of 200"
    operation = "message"
    rate = 50.0

    @override
    async def prepare(self) -> None:
        world = await self.stage.world(crowd)
        self.room = world.room
        ears = [member.another_connection() for member in world.members[:LISTENERS]]
        self.listeners = await asyncio.gather(*(Reader.begin(ear, FILTER) for ear in ears))
        self.senders = [member.another_connection() for member in world.members[-SENDERS:]]

    @override
    async def measure(self, meter: Meter) -> None:
        post = Post(len(self.listeners))
        async with self._listening(post), meter.window():
            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number, sender in enumerate(self.senders):
                    group.create_task(self._speak(sender, post, started + number / self.rate, meter.seconds))
            sending = time.perf_counter() - started
            await post.all_arrived(PATIENCE)
        meter.latencies = post.delays
        meter.operations = len(post.sent)
        meter.open_seconds = sending
        meter.notes["deliveries"] = len(post.delays)
        meter.notes["undelivered"] = len(post.sent) * len(self.listeners) - len(post.delays)

    async def _speak(self, sender: Person, post: Post, first: float, seconds: float) -> None:
        interval = len(self.senders) / self.rate
        due = first
        while due < first + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if time.perf_counter() > first + seconds:
                break
            await sender.say(self.room, post.next_text())
            due += interval

    @asynccontextmanager
    async def _listening(self, post: Post) -> AsyncIterator[None]:
        for listener in self.listeners:
            await listener.catch_up()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._listen(listener, post)) for listener in self.listeners]
            yield
            for task in tasks:
                task.cancel()

    async def _listen(self, listener: Reader, post: Post) -> None:
        while True:
            post.arrived((await listener.read(timeout=30_000)).body)


class CalmFanOut(FanOut):
    """The same at one message a second: the latency a server has when it is not pressed."""

    name = "fan-out-calm"
    title = "Fan-out to 50 listeners, 1 send/s, room of 200"
    rate = 1.0


class PacedFanOut(FanOut):
    """The same at ten messages a second: the pace that every server measured here keeps."""

    name = "fan-out-paced"
    title = "Fan-out to 50 listeners, 10 sends/s, room of 200"
    rate = 10.0
    by_name_only = True
