"""One homeserver under measurement and what has been set up on it: people and worlds, each made once and shared."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from benchmarks.peer import Meeting, Peer
from benchmarks.people import Person, register
from benchmarks.procfs import Watched
from benchmarks.wire import Connection, Target

T = TypeVar("T")
SETUP_CONCURRENCY = 8


@dataclass
class Abroad:
    """The other servers that a homeserver can meet."""

    server: str
    """Its own server name."""
    meeting: Meeting
    _peers: list[Peer] = field(default_factory=list)

    async def peers(self, number: int) -> list[Peer]:
        """The first `number` peers; they serve."""
        await self.meeting.notary.start()
        while len(self._peers) < number:
            self._peers.append(self.meeting.peer())
        for peer in self._peers[:number]:
            await peer.start()
        return self._peers[:number]


@dataclass
class Stage:
    """A homeserver to measure.

    `scale` stretches the worlds (rooms, members), never the seconds measured. `run` makes names unique, so that a
    server can be measured again without being emptied.
    """

    label: str
    target: Target
    watched: Watched
    scale: float = 1.0
    registration_token: str | None = None
    abroad: Abroad | None = None
    run: str = field(default_factory=lambda: os.urandom(3).hex())
    _people: dict[str, list[Person]] = field(default_factory=dict)
    _worlds: dict[Callable[..., Any], Any] = field(default_factory=dict)
    _names: itertools.count[int] = field(default_factory=itertools.count)

    def scaled(self, number: int, *, least: int = 1) -> int:
        """`number` in proportion to the scale."""
        return max(least, round(number * self.scale))

    def new_name(self, role: str = "u") -> str:
        """A localpart nobody has."""
        return f"{role}-{self.run}-{next(self._names)}"

    async def people(self, number: int, role: str) -> list[Person]:
        """The first `number` people of a role; those who are missing register now."""
        crowd = self._people.setdefault(role, [])

        async def arrive(name: str) -> None:
            connection = Connection(self.target)
            crowd.append(await register(connection, name, token=self.registration_token))
            connection.close()

        await at_most(SETUP_CONCURRENCY, (arrive(self.new_name(role)) for _ in range(number - len(crowd))))
        return crowd[:number]

    async def world(self, build: Callable[[Stage], Awaitable[T]]) -> T:
        """What `build` makes on this server, made once."""
        if build not in self._worlds:
            self._worlds[build] = await build(self)
        world: T = self._worlds[build]
        return world


async def at_most(number: int, jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all jobs, `number` of them at a time; the first failure ends all."""
    waiting = iter(jobs)

    async def work() -> None:
        for job in waiting:
            await job

    async with asyncio.TaskGroup() as group:
        for _ in range(number):
            group.create_task(work())
