"""Atrium in this process on a PostgreSQL of its own, and a meter."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from benchmarks.core.search import Client, running
from benchmarks.procfs import Watched
from homeserver.app import App
from homeserver.config import Config, dev_config
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.storage.errors import StorageError
from homeserver.web.auth import Requester

SECONDS, MOST = 2.0, 30
"""One operation is repeated for so long, at most so often."""

Operation = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Cost:
    """Of one operation."""

    median_ms: float
    cpu_ms: float
    """Of the server with the client that asks it, and PostgreSQL."""


@dataclass
class Figures:
    """Of one curve: operation -> size -> cost."""

    title: str
    unit: str
    costs: dict[str, dict[int, Cost]] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """What a run finds of earlier ones, and how far it goes."""

    token: str | None = None
    """Of the reader there; None: nothing is there yet."""
    until: float = math.inf
    """When it stops to build (of the monotonic clock)."""
    measures: bool = True
    """Else it builds alone."""

    @property
    def client(self) -> Client | None:
        """Who is logged in already."""
        return None if self.token is None else Client(None, "", self.token)  # type: ignore[arg-type]  # its token alone is used


@dataclass
class Place:
    """The server with one person who is logged in. `restart` for what was written behind its back."""

    config: Config
    watched: Watched
    app: App
    session: aiohttp.ClientSession
    client: Client

    async def answer(self, method: str, path: str, body: Any = None, **query: str) -> bytes:
        """One request, its answer unread. Raises `RuntimeError` unless it is 200."""
        url = path if path.startswith("/_") else f"/_matrix/client/v3{path}"
        headers = {"Authorization": f"Bearer {self.client.token}"}
        async with self.session.request(
            method, self.app.url + url, json=body, params=query, headers=headers
        ) as answer:
            found = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {found[:300]!r}")
            return found

    async def requester(self, name: str, device: str = "D") -> Requester:
        user_id = UserId(f"@{name}:localhost")
        nid = await self.app.core.interning.user_nid(user_id)
        return Requester(user_id=user_id, user_nid=nid, device_id=DeviceId(device), rate_limited=False)

    async def settle(self) -> None:
        """What happens behind the writers has happened: readers of the log, shortcuts to old states. A minute at most."""
        await self.app.core.compaction.drain()
        for _ in range(240):
            async with self.app.core.db.read() as tx:
                behind = await tx.value(
                    "SELECT (SELECT position FROM log_head) - coalesce(min(position), 0) FROM log_readers"
                )
            if behind <= 0:
                return
            await asyncio.sleep(0.25)

    async def measure(self, figures: Figures, size: int, operations: dict[str, Operation]) -> None:
        """Each of them, one after the other; once before it counts."""
        await self.settle()
        for name, operation in operations.items():
            await operation()
            times: list[float] = []
            began, before, cpu = time.monotonic(), self.watched.usage().database, time.process_time()
            while not times or (len(times) < MOST and time.monotonic() - began < SECONDS):
                asked = time.perf_counter()
                await operation()
                times.append((time.perf_counter() - asked) * 1000)
            spent = time.process_time() - cpu + self.watched.usage().database - before
            cost = Cost(statistics.median(times), spent / len(times) * 1000)
            figures.costs.setdefault(name, {})[size] = cost
            print(
                f"{figures.title}, {size:>9,}: {name:44} {cost.median_ms:10.2f} ms {cost.cpu_ms:10.2f} ms CPU",
                flush=True,
            )


@asynccontextmanager
async def place(
    dsn: str, folder: Path, watched: Watched, client: Client | None = None
) -> AsyncIterator[Place]:
    """Without limits of rates, and with room for what is measured. `client`: who is logged in already."""
    config = dev_config(port=0, data=folder).with_database(dsn)
    limits = config.limits.model_copy(update={"devices_per_user": 200_000, "waiting_messages": 400_000})
    rates = config.rate_limits.model_copy(update={"enabled": False})
    log = config.log.model_copy(update={"requests": False})
    config = config.model_copy(update={"rate_limits": rates, "limits": limits, "log": log})
    async with running(config) as (app, session):
        if client is None:
            client = await Client(session, app.url).person("reader")
        yield Place(config, watched, app, session, client)


async def many(
    calls: Sequence[Callable[[], Coroutine[Any, Any, object]]], at_once: int = 16, until: float = math.inf
) -> None:
    """All of them, some at a time; none is begun after `until` (of the monotonic clock)."""

    waiting = iter(calls)

    async def work() -> None:
        for call in itertools.takewhile(lambda _: time.monotonic() < until, waiting):
            with contextlib.suppress(psycopg.OperationalError, StorageError):  # one of so many is no matter
                await call()

    await asyncio.gather(*(work() for _ in range(at_once)))
