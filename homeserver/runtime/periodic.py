"""Periodic work: declared as values with `every`, run by one `PeriodicRunner`.

No run can end the server, overlap itself, or last longer than its declared time. A run that fails is logged once per
cause and tried again with a growing pause. Work that is declared `once_in_cluster` is run by one process at a time,
under a lease in the database (`periodic_store`), which also remembers across restarts when the next run is due.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

import psycopg
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.runtime import periodic_store as store
from homeserver.runtime.causes import Causes
from homeserver.runtime.clock import Clock, Entropy
from homeserver.runtime.supervised import asked_to_end
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError

_log = structlog.get_logger(__name__)

LEASE = 4.0
"""Seconds after which a process that no longer renews its lease is taken to be dead."""
FIRST_RETRY = 1.0
"""Seconds after the first failure; doubled with each further one."""
LONGEST_RETRY = 5.0
"""Seconds between attempts of work that fails, or its interval where that is longer."""
TIMEOUT = 300.0
"""Seconds a run may take unless it is declared otherwise."""
_MAX_DOUBLINGS = 32


class LeaseLost(Exception):
    """The lease could not be renewed in time: another process may run the work by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """A declaration; made by `every`. All times in seconds."""

    name: str
    """Unique in the process; the label in metrics, and the key of the lease."""
    interval: float
    """From the end of one run to the beginning of the next."""
    call: Callable[[], Awaitable[object]]
    once_in_cluster: bool
    jitter: float
    """By which part of itself a pause may be longer, at random, so that processes do not run in step."""
    first: float
    """Until the first run."""
    timeout: float
    """After which a run is cancelled, and counts as failed."""
    wake: asyncio.Event | None
    """Setting it begins a run at once; the runner clears it."""


def every(
    interval: float,
    call: Callable[[], Awaitable[object]],
    *,
    name: str,
    once_in_cluster: bool = False,
    jitter: float = 0.1,
    first: float | None = None,
    timeout: float = TIMEOUT,
    wake: asyncio.Event | None = None,
) -> Periodic:
    """Declare that `call` is to run every `interval` seconds; see `Periodic`. `first`: the interval, unless given."""
    assert interval > 0
    assert not (once_in_cluster and wake), "a lease is not asked for more often than its interval says"
    return Periodic(
        name=name,
        interval=interval,
        call=call,
        once_in_cluster=once_in_cluster,
        jitter=jitter,
        first=interval if first is None else first,
        timeout=timeout,
        wake=wake,
    )


@dataclass(slots=True)
class Figures:
    """What became of one declaration in this process."""

    succeeded: int = 0
    failed: int = 0
    failing: int = 0
    """Failures since the last success."""
    seconds: float = 0.0
    last_success_ms: int = 0
    running: bool = False


class PeriodicRunner(Collector):
    """Runs declarations from `start` to `stop`; also their metrics.

    `db` holds the leases; None: everything runs here (commands and tests without a database).
    """

    def __init__(
        self, items: Iterable[Periodic], db: Database | None, clock: Clock, entropy: Entropy
    ) -> None:
        self._items = tuple(items)
        self._db = db
        self._clock = clock
        self._entropy = entropy
        self._owner = entropy.token(12)
        self._causes = {item.name: Causes(_log, "periodic_failed", name=item.name) for item in self._items}
        assert len(self._causes) == len(self._items), "two declarations have the same name"
        self._figures = {item.name: Figures() for item in self._items}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    def start(self) -> None:
        """Begin; each declaration in a task of its own."""
        for item in self._items:
            self._tasks[item.name] = asyncio.create_task(self._repeat(item), name=f"periodic.{item.name}")

    async def stop(self, *, within: float = 1.0) -> None:
        """Begin no more runs; those under way may finish for `within` seconds, then they are cancelled. Idempotent."""
        self._closing = True
        running = [task for name, task in self._tasks.items() if self._figures[name].running]
        for task in self._tasks.values():
            if task not in running:
                task.cancel()
        if running:
            await asyncio.wait(running, timeout=within)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    def figures(self, name: str) -> Figures:
        """Of one declaration. Raises `KeyError`."""
        return self._figures[name]

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        runs = CounterMetricFamily(
            "atrium_periodic_runs", "Runs of periodic work in this process", labels=("name", "outcome")
        )
        seconds = CounterMetricFamily("atrium_periodic_seconds", "Time spent in these runs", labels=("name",))
        failing = GaugeMetricFamily(
            "atrium_periodic_failing", "Runs that failed since the last that did not", labels=("name",)
        )
        success = GaugeMetricFamily(
            "atrium_periodic_last_success_seconds",
            "When a run last succeeded here, Unix time",
            labels=("name",),
        )
        for name, figures in self._figures.items():
            runs.add_metric((name, "succeeded"), figures.succeeded)
            runs.add_metric((name, "failed"), figures.failed)
            seconds.add_metric((name,), figures.seconds)
            failing.add_metric((name,), figures.failing)
            if figures.last_success_ms:
                success.add_metric((name,), figures.last_success_ms / 1000)
        yield from (runs, seconds, failing, success)

    # --- inside --------------------------------------------------------------------------------------------------

    async def _repeat(self, item: Periodic) -> None:
        """Run one declaration again and again, until cancelled or stopped."""
        pause = item.first
        while not self._closing:
            await self._pause(item, pause)
            figures = self._figures[item.name]
            figures.running = True
            try:
                pause = await self._turn(item)
            finally:
                figures.running = False

    async def _pause(self, item: Periodic, seconds: float) -> None:
        seconds *= 1 + self._entropy.uniform(0, item.jitter)
        # What fails is not tried more often because somebody asks for it.
        if item.wake is None or self._figures[item.name].failing:
            await self._clock.sleep(seconds)
        else:
            slept = asyncio.ensure_future(self._clock.sleep(seconds))
            woken = asyncio.ensure_future(item.wake.wait())
            try:
                await asyncio.wait((slept, woken), return_when=asyncio.FIRST_COMPLETED)
            finally:
                slept.cancel()
                woken.cancel()
        if item.wake is not None:
            item.wake.clear()

    async def _turn(self, item: Periodic) -> float:
        """Run once, if it is for this process to do. Returns the pause until the next turn; raises nothing but being
        cancelled.
        """
        failures = self._figures[item.name].failing
        try:
            if self._db is None or not item.once_in_cluster:
                await self._run(item)
                return item.interval
            async with self._db.transaction() as tx:
                turn = await store.claim(tx, item.name, self._owner, LEASE)
            if not turn.ours:
                return min(max(turn.wait, FIRST_RETRY), item.interval)
            failures = turn.failures
            await self._run_leased(item, self._db, failures)
        except asyncio.CancelledError as error:
            if asked_to_end():
                raise
            return self._failed(item, failures, error)
        except Exception as error:  # noqa: BLE001  # whatever it was, the next run tries again
            return self._failed(item, failures, error)
        return item.interval

    async def _run(self, item: Periodic) -> None:
        figures, began = self._figures[item.name], self._clock.monotonic()
        try:
            async with asyncio.timeout(item.timeout):
                await item.call()
        finally:
            figures.seconds += self._clock.monotonic() - began
        figures.succeeded += 1
        figures.failing = 0
        figures.last_success_ms = self._clock.now_ms()
        self._causes[item.name].over()

    async def _run_leased(self, item: Periodic, db: Database, failures: int) -> None:
        """Run under the lease, renewing it; then give it up and say when the next run is due."""
        pause, after, succeeded = (
            0.0,
            failures,
            False,
        )  # stopped in the middle: another process goes on at once
        try:
            async with self._renewed(item.name, db):
                await self._run(item)
            pause, after, succeeded = item.interval, 0, True
        except Exception:
            pause, after = retry_pause(item.interval, failures + 1), failures + 1
            raise
        finally:
            # Unless the database is away: then the lease runs out.
            with contextlib.suppress(psycopg.Error, StorageError):
                async with db.transaction() as tx:
                    await store.finish(tx, item.name, self._owner, pause, after, succeeded=succeeded)

    @contextlib.asynccontextmanager
    async def _renewed(self, name: str, db: Database) -> AsyncIterator[None]:
        """Renew the lease every quarter of its time; cancel the block before it runs out unrenewed. Raises `LeaseLost`.

        In real time, whatever clock was injected: the lease is on the database's.
        """
        loop = asyncio.get_running_loop()
        deadline = asyncio.timeout(LEASE * 0.8)

        async def renew() -> None:
            while True:
                await asyncio.sleep(LEASE / 4)
                asked = loop.time()
                with contextlib.suppress(psycopg.Error, StorageError):
                    async with db.transaction() as tx:
                        if not await store.renew(tx, name, self._owner, LEASE):
                            deadline.reschedule(loop.time())
                            return
                    deadline.reschedule(asked + LEASE * 0.8)

        renewing = asyncio.create_task(renew(), name=f"periodic.{name}.lease")
        try:
            async with deadline:
                yield
        except TimeoutError as error:
            raise (LeaseLost() if deadline.expired() else error) from None
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    def _failed(self, item: Periodic, failures: int, error: BaseException) -> float:
        figures = self._figures[item.name]
        figures.failed += 1
        figures.failing += 1
        pause = retry_pause(item.interval, max(failures + 1, figures.failing))
        self._causes[item.name].tell(error, again_in=round(pause, 1))
        return pause


def retry_pause(interval: float, failures: int) -> float:
    """Seconds to wait after so many failures in a row (at least 1)."""
    growing = min(FIRST_RETRY, interval) * 2.0 ** min(failures - 1, _MAX_DOUBLINGS)
    return min(growing, max(interval, LONGEST_RETRY))
