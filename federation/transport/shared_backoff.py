"""Pauses that all processes share: each writes down a moment later what it has learnt, and looks what others have.

Nothing waits for it: a process that does not know of a pause yet makes one attempt too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from federation.transport import store
from federation.transport.backoff import Backoff, Pause
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.runtime.periodic import Periodic, every
from homeserver.storage.database import Database

EVERY: Final = 5.0
"""Seconds between two looks."""
OVERLAP_MS: Final = 30_000
"""What was written so long before the last look is looked at again: clocks of hosts differ, and transactions take time."""
AT_ONCE: Final = 1000
"""Rows written and read at a time."""
FORGOTTEN_MS: Final = 30 * 86_400_000


class SharedBackoff:
    """Between the view of this process and the table."""

    def __init__(self, backoff: Backoff, db: Database, clock: Clock) -> None:
        self._backoff = backoff
        self._db = db
        self._clock = clock
        self._changed: dict[ServerName, int] = {}
        """Server and when, Unix ms."""
        self._seen_ms = 0
        self._exchanging = asyncio.Lock()
        backoff.changed = self._note

    def periodic(self) -> list[Periodic]:
        """The work that has to be done again and again."""
        return [
            every(EVERY, self.exchange, name="federation.pauses", first=0.0),
            every(86_400.0, self._clean, name="federation.pauses_forgotten", once_in_cluster=True),
        ]

    async def exchange(self) -> None:
        """Write what has changed here, read what has changed elsewhere: all of both before the call, also where another
        call was at it.
        """
        async with self._exchanging:
            while self._changed:
                await self._write()
            await self._look()

    def _note(self, server_name: ServerName) -> None:
        self._changed[server_name] = self._clock.now_ms()

    async def _write(self) -> None:
        names = list(self._changed)[:AT_ONCE]
        changes = {name: self._changed.pop(name) for name in names}
        try:
            async with self._db.transaction() as tx:
                await tx.execute("SET LOCAL synchronous_commit = off")
                await store.upsert_pauses(tx, [self._row(name, at) for name, at in changes.items()])
        except BaseException:
            self._changed = {**changes, **self._changed}
            raise

    def _row(self, name: ServerName, at: int) -> store.PauseRow:
        pause = self._backoff.of(name)
        if pause is None:
            return store.PauseRow(name, 0, at, at, at, "", at)
        return store.PauseRow(
            name,
            pause.failures,
            pause.since_ms,
            pause.failed_ms,
            pause.until_ms,
            pause.problem.replace("\0", "�"),
            at,
        )

    async def _look(self) -> None:
        since = self._seen_ms - OVERLAP_MS
        while True:
            async with self._db.read() as tx:
                rows = await store.find_pauses(tx, since, AT_ONCE)
            self._take(rows)
            if len(rows) < AT_ONCE or rows[-1].changed_ms <= since:
                return
            since = rows[-1].changed_ms

    def _take(self, rows: Iterable[store.PauseRow]) -> None:
        for row in rows:
            self._seen_ms = max(self._seen_ms, row.changed_ms)
            name = ServerName(row.server_name)
            if name in self._changed:
                continue  # what happened here is newer
            pause = Pause(
                failures=row.failures,
                since_ms=row.since_ms,
                failed_ms=row.failed_ms,
                until_ms=row.until_ms,
                problem=row.problem,
            )
            self._backoff.learn(name, pause if row.failures else None, row.changed_ms)

    async def _clean(self) -> None:
        async with self._db.transaction() as tx:
            await store.delete_pauses(tx, self._clock.now_ms() - FORGOTTEN_MS)
