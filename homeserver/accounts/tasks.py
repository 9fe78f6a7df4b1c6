"""What a change of an account entails elsewhere: told to the rooms, left by them.

One job per kind and user: a task that is ordered while it is under way is carried out once more, so the last state
always wins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from homeserver.accounts import tasks_store as store
from homeserver.jobs.service import Jobs
from homeserver.jobs.types import JobKind
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline

Handler = Callable[[int, UserId], Awaitable[None]]

TIMEOUT = 3_600.0
"""Seconds: somebody may be in thousands of rooms."""


class UserTask(msgspec.Struct, frozen=True):
    """Whom it is to be done for."""

    user_nid: int


def user_task(name: str) -> JobKind[UserTask]:
    """A kind of task; tried until it is done."""
    return JobKind(f"accounts.{name}", UserTask, timeout=TIMEOUT)


class AccountTasks:
    """Jobs that concern one user each."""

    def __init__(self, db: Database, jobs: Jobs) -> None:
        self._db = db
        self._jobs = jobs

    def handle(self, kind: JobKind[UserTask], handler: Handler) -> None:
        """Say who carries out tasks of a kind: called with (user_nid, user_id), again after a failure or crash."""

        async def carry_out(task: UserTask) -> None:
            async with self._db.read() as tx:
                user_id = await store.find_user_id(tx, task.user_nid)
            if user_id is not None:
                await handler(task.user_nid, user_id)

        self._jobs.handle(kind, carry_out)

    def order(self, batch: Pipeline, kind: JobKind[UserTask], user_nid: int) -> None:
        """Add to a transaction: then this is done after it, whatever happens."""
        self._jobs.defer(batch, kind, UserTask(user_nid), key=str(user_nid))

    async def carry_out(self, kind: JobKind[UserTask], user_nid: int, *, within: float) -> bool:
        """Call after the transaction. Waits until the task is done, but at most `within` seconds; whether it is done."""
        return await self._jobs.done(kind, str(user_nid), within=within)
