"""Declaring who does a kind of job, deferring one, and doing what is due.

A job is deferred in the transaction of its cause. The process that deferred it says `wake` after the commit and does it
at once; otherwise any process finds it within `POLL` seconds. It is done at least once: a process that is killed leaves
a lease that runs out after `LEASE` seconds. See docs/decisions/0013-durable-work.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import psycopg
import structlog

from homeserver.jobs import store
from homeserver.jobs.figures import JobFigures
from homeserver.jobs.types import MAX_PAYLOAD, Claimed, GiveUp, JobKind, P, TooManyJobs, TryLater
from homeserver.runtime.causes import cause_of
from homeserver.runtime.clock import Clock, Entropy
from homeserver.runtime.periodic import Periodic, every
from homeserver.runtime.supervised import asked_to_end
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError
from homeserver.storage.tx import Later, Pipeline, Tx

_log = structlog.get_logger("atrium.jobs")

POLL: Final = 5.0
"""Seconds between looks for what is due; also how often leases are renewed."""
LEASE: Final = 30.0
_LEASE_HERE: Final = 25.0
"""After so many seconds without renewal we stop, so as to be done before another process begins."""
_LOOK_AGAIN: Final = 0.25
"""Seconds between looks whether another process has finished a job."""
_FORGET_EVERY: Final = 3_600.0
_COUNT_EVERY: Final = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds between attempts to write down what came of a job."""
_MAX_CAUSE: Final = 300

Handler = Callable[[P], Awaitable[None]]
_Outcome = Literal["done", "again", "failed"]
"""`again`: it was deferred once more while it was under way."""


@dataclass(frozen=True, slots=True)
class _Handled:
    kind: JobKind[Any]
    handler: Callable[[Any], Awaitable[None]]


@dataclass(slots=True)
class _Running:
    job: Claimed
    lease: asyncio.Timeout
    task: asyncio.Task[None]
    noting: bool = False
    """The handler has ended: that the row is no longer ours may be our own doing."""


class Jobs:
    """The jobs of one process. What `periodic` declares must be run for anything to be done here."""

    def __init__(self, db: Database, clock: Clock, entropy: Entropy) -> None:
        self._db = db
        self._clock = clock
        self._owner = entropy.token(12)
        self._handled: dict[str, _Handled] = {}
        self._running: dict[int, _Running] = {}
        self._busy: dict[str, int] = defaultdict(int)
        self._waiters: dict[tuple[str, str], set[asyncio.Future[bool]]] = defaultdict(set)
        self._wake = asyncio.Event()
        self._closing = False
        self.figures = JobFigures()

    def handle(self, kind: JobKind[P], handler: Handler[P]) -> None:
        """Say who does jobs of a kind in this process: called with the payload, again after a failure or a crash.

        It may raise `TryLater` and `GiveUp`; whatever else it raises is tried again, too, and logged as a fault.
        """
        self._handled[kind.name] = _Handled(kind, handler)

    @staticmethod
    def defer(
        batch: Pipeline, kind: JobKind[P], payload: P, *, key: str | None = None, after: float = 0.0
    ) -> Later[int]:
        """Add a job to a transaction, to be done `after` seconds; 1, or 0 where too many wait (never for a kind without
        `most`). With a `key`, one that waits is replaced, and one that is under way is done once more.
        """
        encoded = msgspec.json.encode(payload)
        if len(encoded) > MAX_PAYLOAD:
            raise ValueError(f"payload of {kind.name}: more than {MAX_PAYLOAD} bytes")
        return store.insert(batch, kind.name, key, encoded, after, kind.most)

    async def add(
        self, tx: Tx, kind: JobKind[P], payload: P, *, key: str | None = None, after: float = 0.0
    ) -> None:
        """As `defer`, in a round trip of its own. Raises `TooManyJobs`."""
        async with tx.pipeline() as batch:
            added = self.defer(batch, kind, payload, key=key, after=after)
        if not added.result:
            raise TooManyJobs("Too much of this waits to be done, try again later")

    def wake(self) -> None:
        """Call after the transaction that has deferred a job: it is begun at once."""
        self._wake.set()

    async def done(self, kind: JobKind[Any], key: str, *, within: float) -> bool:
        """Call after the transaction. Waits until the job is done, by whichever process; but not longer than `within`
        seconds, nor when it has failed here. Returns whether it is done.
        """
        if kind.name not in self._handled or self._closing:
            return False
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiters = self._waiters[kind.name, key]
        waiters.add(waiter)
        self.wake()
        try:
            async with asyncio.timeout(within):
                while not waiter.done():
                    await asyncio.wait([waiter], timeout=_LOOK_AGAIN)
                    if not waiter.done() and not await self._exists(kind.name, key):
                        return True
                return waiter.result()
        except TimeoutError:
            return False
        finally:
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop((kind.name, key), None)

    def periodic(self) -> list[Periodic]:
        """What has to run for jobs to be done."""
        return [
            every(POLL, self.poll, name="jobs", wake=self._wake, first=0.1),
            every(_COUNT_EVERY, self._count, name="jobs.figures", first=1.0),
            every(_FORGET_EVERY, self._forget_failed, name="jobs.forget_failed", once_in_cluster=True),
        ]

    async def poll(self) -> None:
        """Once: renew what is under way, begin what is due. Raises what the database says."""
        if self._closing:
            return
        await self._renew()
        free = [
            (name, handled.kind.at_once - self._busy[name])
            for name, handled in self._handled.items()
            if handled.kind.at_once > self._busy[name]
        ]
        if not free:
            return
        async with self._db.transaction() as tx:
            asked = asyncio.get_running_loop().time()
            claimed = await store.claim(tx, self._owner, free, LEASE)
        for job in claimed:
            self._begin(job, asked)

    async def stop(self, *, within: float = 1.0) -> None:
        """Begin no more; what is under way may finish for `within` seconds, then others may begin it anew. Idempotent."""
        self._closing = True
        running = list(self._running.values())
        if not running:
            return
        await asyncio.wait([each.task for each in running], timeout=within)
        left = [each for each in running if not each.task.done()]
        for each in left:
            each.task.cancel()
        await asyncio.gather(*(each.task for each in left), return_exceptions=True)
        if left:
            with contextlib.suppress(psycopg.Error, StorageError):  # then the leases run out
                async with self._db.transaction() as tx:
                    await store.release(tx, self._owner, [each.job.job_nid for each in left])

    # --- inside --------------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        if not self._running:
            return
        loop = asyncio.get_running_loop()
        held, asked = dict(self._running), loop.time()
        async with self._db.transaction() as tx:
            ours = await store.renew(tx, self._owner, list(held), LEASE)
        for nid, running in held.items():
            if nid not in self._running:
                continue
            if nid in ours:
                running.lease.reschedule(asked + _LEASE_HERE)
            elif not running.noting:
                running.lease.reschedule(loop.time())

    def _begin(self, job: Claimed, asked: float) -> None:
        lease = asyncio.timeout_at(asked + _LEASE_HERE)
        task = asyncio.create_task(self._do(job, lease), name=f"job.{job.kind}")
        self._running[job.job_nid] = _Running(job, lease, task)
        self._busy[job.kind] += 1

    async def _do(self, job: Claimed, lease: asyncio.Timeout) -> None:
        outcome: _Outcome | None = None
        try:
            async with lease:
                outcome = await self._attempt(job)
        except TimeoutError:
            _log.warning("job_lease_lost", kind=job.kind, attempt=job.attempt)
        except Exception as error:  # noqa: BLE001  # the lease runs out, then it is done again
            _log.warning("job_not_noted", kind=job.kind, cause=cause_of(error))
        finally:
            was_full = self._busy[job.kind] >= self._handled[job.kind].kind.at_once
            del self._running[job.job_nid]
            self._busy[job.kind] -= 1
            if outcome != "again":
                self._tell(job, done=outcome == "done")
            if was_full or outcome == "again":
                self.wake()

    async def _attempt(self, job: Claimed) -> _Outcome:
        """Do it once and write down what came of it. Raises what the database says of that."""
        handled = self._handled[job.kind]
        try:
            payload = msgspec.json.decode(job.payload, type=handled.kind.payload)
            async with asyncio.timeout(handled.kind.timeout):
                await handled.handler(payload)
        except asyncio.CancelledError as error:
            if asked_to_end():
                raise
            return await self._failed(job, handled.kind, error)
        except Exception as error:  # noqa: BLE001  # one job must not stop the others
            return await self._failed(job, handled.kind, error)
        gone = await self._note(job, lambda batch: store.finish(batch, self._owner, job)[0])
        self.figures.count(job.kind, "done")
        return "done" if gone.result else "again"

    async def _failed(self, job: Claimed, kind: JobKind[Any], error: BaseException) -> _Outcome:
        expected = isinstance(error, TryLater | GiveUp)
        cause = str(error)[:_MAX_CAUSE] if expected else cause_of(error)
        pause = None if isinstance(error, GiveUp) else kind.retry.pause(job.attempt)
        await self._note(job, lambda batch: store.put_back(batch, self._owner, job, pause, cause))
        told = _log.bind(kind=job.kind, attempt=job.attempt, cause=cause)
        fault = None if expected or isinstance(error, psycopg.OperationalError) else error
        if pause is None:
            told.warning("job_given_up", exc_info=fault)
        else:
            told.info("job_delayed", again_in=round(pause, 1), exc_info=fault)
        self.figures.count(job.kind, "given_up" if pause is None else "delayed")
        return "failed"

    async def _note(self, job: Claimed, write: Callable[[Pipeline], Later[int]]) -> Later[int]:
        """Write what came of a job. While the database is away this waits, until the lease is over: what was done shall not
        be done twice because of a restart of the database.
        """
        self._running[job.job_nid].noting = True
        pause = _FIRST_PAUSE
        while True:
            try:
                async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
                    written = write(batch)
            except (psycopg.OperationalError, StorageError):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                return written

    def _tell(self, job: Claimed, *, done: bool) -> None:
        """Those who wait for it: it is done, or has failed."""
        for waiter in self._waiters.get((job.kind, job.key or ""), ()):
            if not waiter.done():
                waiter.set_result(done)

    async def _exists(self, kind: str, key: str) -> bool:
        async with self._db.read() as tx:
            return await store.exists(tx, kind, key)

    async def _count(self) -> None:
        async with self._db.read() as tx:
            self.figures.note(await store.list_backlogs(tx), len(self._running))

    async def _forget_failed(self) -> None:
        async with self._db.transaction() as tx:
            await store.delete_failed(tx)
