"""All readers of this process: their leases, taken, renewed and given up; and what may be asked about them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import structlog

from homeserver.log import store as log_store
from homeserver.log.entries import Written
from homeserver.log.readers import store
from homeserver.log.readers.lease import LEASE, RENEW, Lease, LeaseLost
from homeserver.log.readers.runner import Environment, Figures, Runner
from homeserver.log.readers.types import Reader
from homeserver.log.tail import Tail
from homeserver.runtime.clock import Entropy
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError

log = structlog.get_logger(__name__)

TAKEN_AT_ONCE = 3
"""Free leases a process takes between two renewals, so that several processes share them."""
FINISH = 1.0
"""Seconds that deliveries under way may take when the process stops."""
ENDED_PAUSE = 1.0
"""Seconds until a runner is begun again that ended by itself."""


class ReaderService:
    """Runs the readers of this process for which it holds the lease. `run` is one of the process's permanent loops."""

    def __init__(self, readers: Sequence[Reader], db: Database, tail: Tail, entropy: Entropy) -> None:
        self.readers = {reader.name: reader for reader in readers}
        assert len(self.readers) == len(readers), "two readers have the same name"
        self._db = db
        self._tail = tail
        self._entropy = entropy
        self._environment = Environment(db, tail, entropy)
        self._owner = entropy.token(12)
        self._leases: dict[str, Lease] = {}
        self.runners: dict[str, Runner] = {}
        """Readers that run here now."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.figures = {name: Figures() for name in self.readers}
        if self.readers:
            tail.after_batch(self._grown)

    async def run(self) -> None:
        """Hold leases and run readers, which are declared, until cancelled; then give the leases up."""
        if not self.readers:
            await asyncio.Event().wait()
        try:
            while True:
                await self._renew()
                await asyncio.sleep(RENEW * (1 + self._entropy.uniform(-0.1, 0.1)))
        finally:
            await self._end()

    async def declare(self) -> None:
        """Readers that are new here begin at what is written from now on: to be done before anything is served, lest they miss
        what comes first. Where one began before, it goes on.
        """
        async with self._db.transaction() as tx:
            head = await log_store.read_head(tx)
            positions = [0 if reader.from_beginning else head for reader in self.readers.values()]
            await store.declare(
                tx,
                list(self.readers),
                positions,
                [reader.resume is None for reader in self.readers.values()],
            )

    def runs(self, name: str) -> bool:
        """Whether this process runs a reader now."""
        return name in self.runners

    def nudge(self, name: str, key: str, after: float) -> None:
        """Let a reader that runs here deliver to a key within so many seconds, though there may be no items for it."""
        runner = self.runners.get(name)
        if runner is not None:
            runner.nudge(key, after)

    def _grown(self, written: Sequence[Written[Any]]) -> None:
        kinds = {type(entry) for _, entry in written}
        first, last = (written[0].position, written[-1].position) if written else (0, 0)
        for runner in self.runners.values():
            runner.grown(first, last, kinds)

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        wanted = self.readers.keys() - self._leases.keys()
        most = len(wanted) if self._tail.alone else TAKEN_AT_ONCE
        try:
            async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
                store.relax_commit(batch)
                renewed = store.renew_leases(batch, self._leases, self._owner, LEASE)
                taken = store.take_leases(batch, wanted, self._owner, LEASE, most)
        except (psycopg.Error, StorageError) as error:
            log.warning("readers.not_renewed", error=type(error).__name__)
            return
        ours = {name for (name,) in renewed.result}
        for name in [*self._leases]:
            if name in ours:
                self._leases[name].renewed(asked)
            else:
                log.warning("reader.lease_lost", reader=name)
                self._leases.pop(name)
                await self._halt(name)
        for name, position in taken.result:
            self._leases[name] = Lease(self._owner, position, asked)
            self._tasks[name] = asyncio.create_task(self._keep_running(name), name=f"reader.{name}")

    async def _keep_running(self, name: str) -> None:
        """Run a reader for as long as we hold its lease. Ends by being cancelled, or with the lease."""
        while (lease := self._leases.get(name)) is not None:
            runner = self.runners[name] = Runner(
                self.readers[name], lease, self._environment, self.figures[name]
            )
            runner.grown()
            try:
                await runner.run()
            except LeaseLost:
                self._leases.pop(name, None)
            except Exception:
                log.exception("reader.ended", reader=name)
                await asyncio.sleep(ENDED_PAUSE)
            finally:
                self.runners.pop(name, None)
            lease.position = runner.recorded

    async def _halt(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _end(self) -> None:
        async with asyncio.TaskGroup() as group:
            for runner in self.runners.values():
                group.create_task(runner.finish(FINISH))
        for name in [*self._tasks]:
            await self._halt(name)
        try:
            async with asyncio.timeout(LEASE), self._db.transaction() as tx:
                await store.release_leases(tx, self._owner)
        except (psycopg.Error, StorageError, TimeoutError) as error:
            log.warning("readers.not_released", error=type(error).__name__)
        self._leases.clear()
