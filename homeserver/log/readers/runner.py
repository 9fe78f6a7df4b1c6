"""One reader while this process holds its lease: looks through the log, delivers, records what was acknowledged."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, ParamSpec, TypeVar

import psycopg
import structlog

from homeserver.log.entries import Entry, Position
from homeserver.log.readers import store
from homeserver.log.readers.ahead import Ahead
from homeserver.log.readers.cursor import Cursor
from homeserver.log.readers.lanes import BehindKeys, Lane
from homeserver.log.readers.lease import Lease, LeaseLost
from homeserver.log.readers.resuming import Resuming
from homeserver.log.readers.slices import Slices
from homeserver.log.readers.store import CursorRow
from homeserver.log.readers.types import SLOW, WHOLE, GiveUp, Item, NotNow, Reader, Slice
from homeserver.log.tail import Tail
from homeserver.runtime.clock import Entropy
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.storage.errors import StorageError

log = structlog.get_logger(__name__)

CHECKPOINT = 1.0
"""Seconds between records of the scan position, where it has moved."""
DATABASE_PAUSE = 0.5
"""Seconds until a statement is tried again that failed because the database was away."""
MAX_ITEMS = 50_000
"""Items kept in memory for all cursors of a reader."""
LET_GO_AFTER = 3
"""Failures in a row after which a cursor that can be resumed keeps nothing in memory."""
LET_GO_PAUSE = 30.0
"""Seconds of a pause for which it is not kept either."""
LOOKED_AT_ONCE = 500
"""Cursors that begin, or go to the other lane, in one turn of the event loop."""
RETRIES_AT_ONCE = 500
"""Failing cursors that are found due in the database by one query."""

P = ParamSpec("P")
T = TypeVar("T")

_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, StorageError)


@dataclass(slots=True)
class Figures:
    """What a reader did in this process."""

    delivered: int = 0
    failures: int = 0
    given_up: int = 0


class Environment(NamedTuple):
    """What runners stand on; one for all of a process."""

    db: Database
    tail: Tail
    entropy: Entropy


class Recorded(NamedTuple):
    """A row to be written, and who waits for it."""

    row: CursorRow
    done: asyncio.Future[None]


class Runner:
    """Runs from the moment a lease is had until it is lost or given up. Owns the reader's cursors."""

    def __init__(self, reader: Reader, lease: Lease, environment: Environment, figures: Figures) -> None:
        self.reader = reader
        self.scanned = lease.position
        """Everything up to here has been looked at."""
        self.cursors: dict[str, Cursor] = {}
        self._lease = lease
        self._db, self._tail, self._entropy = environment
        self._figures = figures
        self._slices = Slices(self._db, self._tail, reader.sources)
        self._kept = 0
        self.recorded: Position = lease.position
        """The scan position that the database has."""
        self._grown = asyncio.Event()
        self._kinds = frozenset(source.entry_type for source in reader.sources)
        self._looks = True
        """Whether what was found is being looked at; else the scan waits for the log to grow."""
        self._wake = asyncio.Event()
        self._ready = Lane(reader.at_once, reader.group_at_once, reader.group)
        self._struggling = Lane(reader.struggling_at_once, reader.group_struggling_at_once, reader.group)
        self._retries: list[tuple[float, str]] = []
        self._nudges: dict[str, float] = {}
        self._nudged: list[tuple[float, str]] = []
        self._behind = BehindKeys()
        self._running: set[asyncio.Task[None]] = set()
        self._records: list[Recorded] = []
        self._recorded = asyncio.Event()
        self._closing = False
        self._ahead = Ahead(reader, self._ready, self._struggling)
        self._resuming = Resuming(reader, self.cursors, self._ready, self._struggling)

    # --- what the service calls --------------------------------------------------------------------------------------

    def grown(self, first: Position = 0, last: Position = 0, kinds: Collection[type[Entry]] = ()) -> None:
        """The log has grown, by entries of these kinds in [first, last]; none: by what is not known."""
        if kinds and not self._looks and first == self.scanned + 1 and self._kinds.isdisjoint(kinds):
            self.scanned = last  # nothing of it is for this reader, so nobody is woken
        else:
            self._grown.set()

    def nudge(self, key: str, after: float) -> None:
        """Let `deliver` be called for a key within so many seconds (unless it is being left alone), items or not."""
        at = asyncio.get_running_loop().time() + after
        if self._nudges.get(key, float("inf")) <= at:
            return
        self._nudges[key] = at
        heapq.heappush(self._nudged, (at, key))
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled; being cancelled it leaves deliveries under way, whose items come again. Raises `LeaseLost`."""
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._scan())
                group.create_task(self._dispatch(group))
                group.create_task(self._record_all())
        except BaseExceptionGroup as errors:
            lost = errors.subgroup(LeaseLost)
            if lost is not None:
                raise LeaseLost(self.reader.name) from None
            raise

    async def finish(self, within: float) -> None:
        """Begin no more deliveries; those under way may end within so many seconds, and are recorded."""
        self._closing = True
        if self._running:
            await asyncio.wait(self._running, timeout=within)

    # --- looking through the log ---------------------------------------------------------------------------------------

    async def _load(self) -> None:
        now = asyncio.get_running_loop().time()
        async with self._db.read() as tx:
            rows = await store.find_cursors(tx, self.reader.name)
        for row in rows:
            cursor = self.cursors[row.key] = Cursor(row.key, row.position, whole=row.position >= self.scanned)
            cursor.has_row, cursor.failures = True, row.failures
            if not cursor.whole:
                self._behind.add(row.key)
            if row.failures and row.wait > 0:
                self._retry(cursor, now + row.wait)
            else:
                self._make_ready(cursor)

    async def _scan(self) -> None:
        while True:
            head = self._tail.position
            if head <= self.scanned:
                self._looks = False
                await self._grown.wait()
                self._looks = True
                self._grown.clear()
                continue
            found = await self._patiently(self._slices.read, self.scanned, head)
            await self._assign(found)

    async def _assign(self, found: Slice) -> None:
        """Tell each cursor what is for it. From the last `await` on, nothing else may come between."""
        wanted = await self._patiently(self._keys, found.items)
        for item, keys in zip(found.items, wanted, strict=True):
            for key in self._behind.others(keys):
                cursor = self._cursor(key)
                self._kept += cursor.add(item, self.scanned, room=self._kept < MAX_ITEMS)
                if not cursor.whole:
                    self._behind.add(key)
                self._make_ready(cursor)
        self.scanned = found.upto

    def _cursor(self, key: str) -> Cursor:
        cursor = self.cursors.get(key)
        if cursor is None:
            cursor = self.cursors[key] = Cursor(key, self.scanned, whole=True)
        return cursor

    async def _keys(self, items: Sequence[Item[Any]]) -> Sequence[Collection[str]]:
        if not items:
            return ()
        if self.reader.interest is None:
            return [(WHOLE,)] * len(items)
        return await self.reader.interest(items)

    # --- delivering --------------------------------------------------------------------------------------------------

    def _make_ready(self, cursor: Cursor) -> None:
        if (cursor.nudged or cursor.has_work) and not cursor.busy and not cursor.retry_at:
            cursor.busy = True
            (self._struggling if self._struggles(cursor) else self._ready).add(cursor.key)
            self._wake.set()

    def _struggles(self, cursor: Cursor) -> bool:
        may_be_slow = self.reader.may_be_slow
        return cursor.struggling or (may_be_slow is not None and may_be_slow(cursor.key))

    def _retry(self, cursor: Cursor, at: float) -> None:
        cursor.retry_at = at
        heapq.heappush(self._retries, (at, cursor.key))

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = loop.time()
            while self._retries and self._retries[0][0] <= now:
                at, key = heapq.heappop(self._retries)
                self._try_now(key, at)
            while self._nudged and self._nudged[0][0] <= now:
                self._nudge_now(*heapq.heappop(self._nudged))
            for lane in (self._ready, self._struggling):
                await self._begin_all(group, lane)
            waiting = self._ready or self._struggling
            due = [heap[0][0] for heap in (self._retries, self._nudged) if heap]
            if waiting and not self._lease.valid:
                due.append(loop.time() + self._lease.renewed_every)
            try:
                async with asyncio.timeout_at(max(min(due), loop.time() + 0.001) if due else None):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _begin_all(self, group: asyncio.TaskGroup, lane: Lane) -> None:
        """As many as have a place; others have a turn between many."""
        looked = 0
        while lane.may_begin and self._lease.valid and not self._closing:
            self._begin(group, lane)
            looked += 1
            if looked % LOOKED_AT_ONCE == 0:
                await next_turn()

    def _begin(self, group: asyncio.TaskGroup, lane: Lane) -> None:
        key = lane.begin()
        right = self._struggling if self._struggles(self.cursors[key]) else self._ready
        if lane is not right:  # it has turned out so since it was added
            lane.end(key)
            right.add(key)
            self._wake.set()
            return
        task = group.create_task(self._step(self.cursors[key]))
        self._running.add(task)

        def finished(ended: asyncio.Task[None]) -> None:
            lane.end(key)
            self._running.discard(ended)
            self._wake.set()

        task.add_done_callback(finished)

    def _nudge_now(self, at: float, key: str) -> None:
        if self._nudges.get(key) != at:
            return
        del self._nudges[key]
        cursor = self._cursor(key)
        cursor.nudged = not cursor.retry_at
        self._make_ready(cursor)

    def _try_now(self, key: str, at: float) -> None:
        cursor = self.cursors.get(key)
        if cursor is not None and cursor.retry_at == at:
            cursor.retry_at = 0.0
            self._make_ready(cursor)

    async def _step(self, cursor: Cursor) -> None:
        """Deliver one batch; then let others have their turn."""
        nudged, cursor.nudged = cursor.nudged, False
        batch = await self._next(cursor)
        if batch:
            await self._ahead.prepare(cursor.key)
            taken = await self._deliver(cursor, batch)
            if not isinstance(taken, BaseException):
                if taken:
                    self._kept -= cursor.acknowledge(batch[taken - 1].position)
                if cursor.has_row or not self.reader.repeatable:
                    await self._record(CursorRow(cursor.key, cursor.acked, 0, 0.0))
            else:
                await self._failed(cursor, taken)
        elif nudged:
            await self._deliver(cursor, batch)
        cursor.busy = False
        self._make_ready(cursor)

    async def _failed(self, cursor: Cursor, failure: BaseException) -> None:
        """The items come again after a pause."""
        if isinstance(failure, NotNow):
            cursor.failures, pause = max(cursor.failures, 1), failure.seconds
        else:
            cursor.failures += 1
            pause = self.reader.backoff.pause(cursor.failures, self._entropy.uniform(0, 1))
            self._say_failed(cursor, failure, pause)
        away = cursor.failures >= LET_GO_AFTER or pause >= LET_GO_PAUSE
        if self.reader.resume is not None and away:
            self._kept -= cursor.let_go()
            self._behind.add(cursor.key)
        await self._record(CursorRow(cursor.key, cursor.acked, cursor.failures, pause))
        self._retry(cursor, asyncio.get_running_loop().time() + pause)

    async def _next(self, cursor: Cursor) -> list[Item[Any]]:
        """The oldest items that are not acknowledged, from memory, or read again as far as need be."""
        while not cursor.items and not cursor.whole:
            mine, upto = await self._patiently(self._read_for, cursor)
            before = len(cursor.items)
            if cursor.catch_up(mine, upto, self.scanned):
                self._behind.discard(cursor.key)
            self._kept += len(cursor.items) - before
        return list(islice(cursor.items, self.reader.batch))

    async def _read_for(self, cursor: Cursor) -> Slice:
        upto = self.scanned
        resumed = await self._resuming.of(cursor, upto)
        if resumed is not None:
            return resumed
        found = await self._slices.read(cursor.covered, upto)
        wanted = await self._keys(found.items)
        mine = [item for item, keys in zip(found.items, wanted, strict=True) if cursor.key in keys]
        return Slice(mine, found.upto)

    async def _deliver(self, cursor: Cursor, batch: Sequence[Item[Any]]) -> int | BaseException:
        """How many, from the first, are acknowledged or given up; or why none is."""
        loop = asyncio.get_running_loop()
        began, taken = loop.time(), len(batch)
        try:
            async with asyncio.timeout(self.reader.timeout):
                acknowledged = await self.reader.deliver(cursor.key, batch)
        except GiveUp as reason:
            self._figures.given_up += len(batch)
            log.warning(
                "reader.given_up",
                reader=self.reader.name,
                cursor=cursor.key,
                items=len(batch),
                reason=str(reason),
            )
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return error
        except Exception as error:  # noqa: BLE001  # whatever it was, the items come again
            return error
        else:
            taken = taken if acknowledged is None else acknowledged
            self._figures.delivered += taken
        finally:
            cursor.slow = loop.time() - began > SLOW
        return taken

    def _say_failed(self, cursor: Cursor, failure: BaseException, pause: float) -> None:
        self._figures.failures += 1
        # The 1st, 2nd, 4th, 8th … in a row; where many other sides are away, those that stay so.
        told = cursor.failures & (cursor.failures - 1) == 0
        if told and (self.reader.resume is None or cursor.failures > LET_GO_AFTER):
            log.warning(
                "reader.delivery_failed",
                reader=self.reader.name,
                cursor=cursor.key,
                failures=cursor.failures,
                error=type(failure).__name__,
                again_in=round(pause, 1),
            )

    # --- recording ---------------------------------------------------------------------------------------------------

    async def _record(self, row: CursorRow) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._records.append(Recorded(row, done))
        self._recorded.set()
        await done

    async def _record_all(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + CHECKPOINT
        while True:
            try:
                async with asyncio.timeout_at(due):
                    await self._recorded.wait()
            except TimeoutError:
                due = loop.time() + CHECKPOINT
                await self._patiently(self._record_scan)
                if self._retries:
                    await self._patiently(self._find_due)
            if self._records:
                await self._patiently(self._record_rows)
            if not self._records:
                self._recorded.clear()

    async def _record_rows(self) -> None:
        records = list(self._records)
        newest = {record.row.key: record.row for record in records}
        async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
            count = store.write_cursors(batch, self.reader.name, self._lease.owner, list(newest.values()))
        if count.result != len(newest):
            raise LeaseLost(self.reader.name)
        del self._records[: len(records)]
        for record in records:
            cursor = self.cursors.get(record.row.key)
            if cursor is not None:
                cursor.has_row = True
            if not record.done.done():
                record.done.set_result(None)

    async def _record_scan(self) -> None:
        """Move the scan position on, and give rows to all who have something left before it."""
        scanned, name, owner = self.scanned, self.reader.name, self._lease.owner
        idle = [c for c in self.cursors.values() if not c.has_work and not c.busy]
        left = [c for c in self.cursors.values() if not c.has_row and (c.has_work or c.busy)]
        if scanned != self.recorded or any(cursor.has_row for cursor in idle):
            async with self._db.transaction() as tx, tx.pipeline(commit=True) as batch:
                store.relax_commit(batch)
                moved = store.write_scan(batch, name, owner, scanned)
                if left:
                    store.write_cursors(
                        batch, name, owner, [CursorRow(c.key, c.acked, c.failures, 0.0) for c in left]
                    )
                if gone := [cursor.key for cursor in idle if cursor.has_row]:
                    store.delete_cursors(batch, name, owner, gone)
            if not moved.result:
                raise LeaseLost(name)
            self.recorded = scanned
            for cursor in left:
                cursor.has_row = True
            for cursor in idle:
                cursor.has_row = False
        self._drop(idle)

    def _drop(self, idle: Sequence[Cursor]) -> None:
        """Forget cursors that had nothing to do, and still have not."""
        for cursor in idle:
            if not cursor.has_work and not cursor.busy and not cursor.has_row:
                self._behind.discard(cursor.key)
                del self.cursors[cursor.key]

    async def _find_due(self) -> None:
        """Somebody may have asked, at any process, that a cursor be tried again now."""
        async with self._db.read() as tx:
            due = await store.find_due(tx, self.reader.name, RETRIES_AT_ONCE)
        for key in due:
            cursor = self.cursors.get(key)
            if cursor is not None and cursor.retry_at:
                self._try_now(key, cursor.retry_at)

    async def _patiently(self, work: Callable[P, Awaitable[T]], *values: P.args, **named: P.kwargs) -> T:
        """Carry out what needs the database; while it is away, again and again."""
        while True:
            try:
                return await work(*values, **named)
            except _AWAY as error:
                log.warning("reader.database_away", reader=self.reader.name, error=type(error).__name__)
                await asyncio.sleep(DATABASE_PAUSE)
