"""A homeserver in processes of its own with many people on it, for plays of many at once.

Requests are prepared as bytes and sent by `benchmarks.wire`: the one who makes the load shares the processors with the server, and
is to need less than it. Everything has a bound in requests; whatever was opened is closed at the end of the block.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

from benchmarks.people import Person, register
from benchmarks.procfs import read_all
from benchmarks.wire import Connection, Response, Target
from tests.support.bystander import Bystander
from tests.support.process import HomeserverProcess

MB = 1 << 20
AT_ONCE = 24
"""Requests under way while the stage is set."""
LOOK_EVERY = 0.1
PATIENCE = 120.0
"""Seconds after which a request is given up; longer than anything here takes on a busy machine."""


@dataclass
class Memory:
    """Resident bytes of the serving processes together: before, and the most while it was looked at."""

    before: int
    most: int

    @property
    def grown(self) -> float:
        """Megabytes."""
        return (self.most - self.before) / MB


@dataclass
class Load:
    """A running server, the people on it, and the one who is innocent."""

    process: HomeserverProcess
    target: Target
    bystander: Bystander
    share: float = 1.0
    """Of the numbers that plays name: how many there are here."""
    people: list[Person] = field(default_factory=list)
    rooms: dict[str, str] = field(default_factory=dict)
    """Rooms that plays share, by what they are."""

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, process: HomeserverProcess, share: float = 1.0) -> AsyncIterator[Self]:
        """On a server that runs."""
        target = Target.parse(process.base_url)
        load = cls(process, target, await Bystander.arrive(process.base_url), share)
        try:
            yield load
        finally:
            load.hang_up()
            await load.bystander.leave()

    def hang_up(self) -> None:
        """Everybody closes their connections; they are opened again when needed."""
        for person in self.people:
            person.connection.close()

    # ------------------------------------------------------------------------------------------------------- the stage

    def some(self, number: int) -> int:
        """As many as that, or the share of them that this server is to bear."""
        return max(2, round(number * self.share))

    async def populate(self, number: int) -> list[Person]:
        """So many people (or the share of them), made where there are fewer."""
        number = self.some(number)
        connections = [Connection(self.target) for _ in range(AT_ONCE)]

        async def some(connection: Connection, names: range) -> list[Person]:
            return [await register(connection, f"person{name}") for name in names]

        have = len(self.people)
        made = await asyncio.gather(
            *(some(each, range(have + n, number, AT_ONCE)) for n, each in enumerate(connections))
        )
        for connection in connections:
            connection.close()
        self.people += [person for group in made for person in group]
        return self.people[:number]

    async def room_of(self, people: list[Person], **options: object) -> str:
        """A room that all of them are in; the first has made it."""
        room = await people[0].make_room(preset="public_chat", **options)
        await self.gently(person.request("POST", f"/join/{quote(room)}", {}) for person in people[1:])
        return room

    async def gently(self, requests: Iterable[bytes]) -> list[Response]:
        """All of them, some at a time, none refused; in no order."""
        waiting = iter(requests)

        async def work() -> list[Response]:
            connection = Connection(self.target)
            try:
                return [await connection.succeed(request) for request in waiting]
            finally:
                connection.close()

        return [answer for some in await asyncio.gather(*(work() for _ in range(AT_ONCE))) for answer in some]

    # -------------------------------------------------------------------------------------------------------- the play

    async def at_once(self, requests: Iterable[bytes], *, read: bool = False) -> Answers:
        """All at the same time, each on a connection of its own. Bodies are kept where `read` is set."""
        answers = Answers()
        await asyncio.gather(*(self._one(request, answers, read=read) for request in requests))
        return answers

    async def _one(self, request: bytes, answers: Answers, *, read: bool) -> None:
        connection = Connection(self.target)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await connection.send(request)
        except (OSError, TimeoutError) as error:
            answers.statuses[type(error).__name__] += 1
        else:
            answers.statuses[answer.status] += 1
            answers.seconds.append(answer.seconds)
            answers.bytes += len(answer.body)
            if read:
                answers.bodies.append(answer.body)
        finally:
            connection.close()

    # ------------------------------------------------------------------------------------------------------ the server

    def serving(self) -> list[int]:
        """The processes that answer."""
        return self.process.worker_pids() or [self.process.pid]

    def _resident(self, pids: list[int]) -> int:
        processes = read_all()
        return sum(processes[pid].resident_bytes for pid in pids if pid in processes)

    @contextlib.asynccontextmanager
    async def memory(self) -> AsyncIterator[Memory]:
        """Look at their memory until the block ends."""
        pids = self.serving()
        memory = Memory(self._resident(pids), 0)

        async def look() -> None:
            while True:
                memory.most = max(memory.most, self._resident(pids))
                await asyncio.sleep(LOOK_EVERY)

        looking = asyncio.create_task(look())
        try:
            yield memory
        finally:
            looking.cancel()
            memory.most = max(memory.most, self._resident(pids))


@dataclass
class Answers:
    """What many were answered: how often which status (or the name of what went wrong), and seconds of each."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    bytes: int = 0
    bodies: list[bytes] = field(default_factory=list)


def narrow_socket(target: Target, request: bytes, *, buffer: int = 4096) -> socket.socket:
    """A connection that takes little at a time and has sent a request; whoever opened it closes it."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    narrow.connect((target.host, target.port))
    narrow.sendall(request)
    narrow.setblocking(False)
    return narrow
