"""What a change of an account entails elsewhere: told to the rooms, left by them; durable, at least once, one at a time.

Owns `account_tasks`. A task is ordered in the transaction of the change and carried out at once by the process that
made it; if that process dies, another takes it up when the lease has run out. A task that is ordered while it is
under way is carried out once more, so the last state always wins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from homeserver.accounts import tasks_store as store
from homeserver.matrix.ids import UserId
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

_log = structlog.get_logger("atrium.accounts")

Handler = Callable[[int, UserId], Awaitable[None]]
_Task = tuple[str, int]
_Job = tuple[_Task, "asyncio.Future[bool]"]

LEASE_MS = 30_000
WORKERS = 4
MAX_WAITING = 1_000
"""Tasks waiting in this process; those beyond are taken up by the sweep, later."""
SWEEP_SECONDS = 5.0
LONGEST_PAUSE_MS = 15 * 60_000
"""Between attempts at a task that fails again and again."""


class AccountTasks:
    """One per process; `run` must be running."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._handlers: dict[str, Handler] = {}
        self._queue: asyncio.Queue[_Job] = asyncio.Queue(MAX_WAITING)
        self._queued: dict[_Task, asyncio.Future[bool]] = {}

    def handle(self, kind: str, handler: Handler) -> None:
        """Say who carries out tasks of a kind: called with (user_nid, user_id), again after a failure or crash."""
        self._handlers[kind] = handler

    @staticmethod
    def order(batch: Pipeline, kind: str, user_nid: int) -> None:
        """Add to a transaction: then this is done after it, whatever happens."""
        store.order(batch, kind, user_nid)

    async def carry_out(self, kind: str, user_nid: int, *, within: float) -> bool:
        """Call after the transaction. Waits until the task is done, but at most `within` seconds; whether it is done."""
        if kind not in self._handlers:
            return False
        with contextlib.suppress(TimeoutError, asyncio.QueueFull):
            async with asyncio.timeout(within):
                if not await asyncio.shield(self._enqueue((kind, user_nid))):
                    return False
                while await self._exists(kind, user_nid):  # noqa: ASYNC110  # a worker, maybe of another process, is on it
                    await asyncio.sleep(0.05)
                return True
        return False

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())
            group.create_task(self._sweep())

    def _enqueue(self, task: _Task) -> asyncio.Future[bool]:
        queued = self._queued.get(task)
        if queued is None:
            queued = asyncio.get_running_loop().create_future()
            self._queue.put_nowait((task, queued))
            self._queued[task] = queued
        return queued

    async def _sweep(self) -> None:
        while True:
            try:
                async with self._db.read() as tx:
                    due = await store.list_due(tx, self._clock.now_ms(), MAX_WAITING // 2)
                for task in due:
                    if task[0] in self._handlers:
                        self._enqueue(task)
            except asyncio.QueueFull:
                pass
            except Exception as error:  # noqa: BLE001  # the next sweep tries again
                _log.warning("tasks_not_read", error=repr(error))
            await self._clock.sleep(SWEEP_SECONDS)

    async def _work(self) -> None:
        while True:
            task, done = await self._queue.get()
            # From here on the task may be ordered anew, and must then be looked at anew.
            self._queued.pop(task, None)
            well = False
            try:
                await self._carry_out(*task)
                well = True
            except Exception as error:  # noqa: BLE001  # the lease runs out, then it is tried again
                _log.warning("task_not_finished", kind=task[0], user_nid=task[1], error=repr(error))
            finally:
                if not done.done():
                    done.set_result(well)

    async def _carry_out(self, kind: str, user_nid: int) -> None:
        handler = self._handlers.get(kind)
        while handler is not None:
            now_ms = self._clock.now_ms()
            async with self._db.transaction() as tx:
                claimed = await store.claim(tx, kind, user_nid, now_ms, now_ms + LEASE_MS)
            if claimed is None:
                return
            version, attempts, user_id = claimed
            try:
                async with self._lease_held(kind, user_nid):
                    await handler(user_nid, user_id)
            except Exception:
                pause_ms = min(1000 * 2 ** min(attempts, 20), LONGEST_PAUSE_MS)
                await self._renew(kind, user_nid, self._clock.now_ms() + pause_ms)
                raise
            async with self._db.transaction() as tx:
                if await store.finish(tx, kind, user_nid, version):
                    return
                await store.renew(tx, kind, user_nid, 0)

    @contextlib.asynccontextmanager
    async def _lease_held(self, kind: str, user_nid: int) -> AsyncIterator[None]:
        async def keep() -> None:
            while True:
                await self._clock.sleep(LEASE_MS / 3000)
                await self._renew(kind, user_nid, self._clock.now_ms() + LEASE_MS)

        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(keep())
            try:
                yield
            finally:
                keeping.cancel()

    async def _renew(self, kind: str, user_nid: int, until_ms: int) -> None:
        async with self._db.transaction() as tx:
            await store.renew(tx, kind, user_nid, until_ms)

    async def _exists(self, kind: str, user_nid: int) -> bool:
        async with self._db.read() as tx:
            return await store.exists(tx, kind, user_nid)
