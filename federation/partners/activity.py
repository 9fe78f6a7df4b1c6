"""What other servers did, and what was done with them: counts by day, server, room and kind, for the dry run and the status.

Owns what is not written yet. Counting is a look into a dictionary; a row is written for many acts together, not for each.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from federation.partners import store
from federation.partners.store import ActivityRow
from federation.ports import Done
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

DAY_MS: Final = 86_400_000
KEPT_DAYS: Final = 14
MAX_ROWS: Final = 300_000
"""In the database; beyond it the oldest days go first, and of a day what was done least often."""
MAX_UNWRITTEN: Final = 20_000
"""In memory. From half of it on rooms are no longer told apart; beyond it nothing new is counted until it is written."""
EVERY: Final = 20.0
"""Seconds between writes."""
FORGET_EVERY: Final = 3_600.0
AT_ONCE: Final = 2_000


@dataclass(slots=True)
class _Second:
    """How many there were in a second."""

    at: int
    count: int


class Activity:
    """Counts of a process, written together now and then."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._unwritten: dict[tuple[int, str, str, str], list[int]] = {}
        """(day, server, kind, room) -> [count, peak]"""
        self._seconds: dict[tuple[str, str], _Second] = {}
        self._writing = asyncio.Lock()

    def note(
        self,
        server_name: ServerName,
        kind: Done | Literal["refused"],
        room_id: str = "",
        *,
        amount: int = 1,
        peak: int = 0,
    ) -> None:
        """So much was done. `peak`: of requests and events the most in one second, of files the most bytes of one. Of what was
        refused the reason stands in place of a room.
        """
        if len(self._unwritten) >= MAX_UNWRITTEN // 2 or "\0" in room_id:
            room_id = ""
        key = (self._clock.now_ms() // DAY_MS, server_name, kind, room_id)
        found = self._unwritten.get(key)
        if found is None:
            if len(self._unwritten) < MAX_UNWRITTEN:
                self._unwritten[key] = [amount, peak]
            return
        found[0] += amount
        found[1] = max(found[1], peak)

    def note_rate(self, server_name: ServerName, kind: Literal["requests", "pdus"], amount: int = 1) -> None:
        """As `note`, of what is limited by the second."""
        second = int(self._clock.monotonic())
        now = self._seconds.get((server_name, kind))
        if now is None or now.at != second:
            if len(self._seconds) >= MAX_UNWRITTEN:
                self._seconds.clear()
            now = self._seconds[server_name, kind] = _Second(second, 0)
        now.count += amount
        self.note(server_name, kind, amount=amount, peak=now.count)

    async def write(self) -> None:
        """Once: what was counted before the call is in the database when it returns, also where another call wrote it."""
        async with self._writing:
            while self._unwritten:
                await self._write_some()

    async def _write_some(self) -> None:
        some = [*self._unwritten.items()][:AT_ONCE]
        for key, _ in some:
            del self._unwritten[key]
        rows = [
            ActivityRow(day, server, kind, room, count, peak)
            for (day, server, kind, room), (count, peak) in some
        ]
        try:
            async with self._db.transaction() as tx:
                await store.add_activity(tx, rows)
        except BaseException:
            for key, (count, peak) in some:
                since = self._unwritten.get(key, (0, 0))  # what was done meanwhile
                self._unwritten[key] = [count + since[0], max(peak, since[1])]
            raise

    async def forget(self) -> None:
        """Once: what is older than it is kept, and what is too much."""
        oldest = self._clock.now_ms() // DAY_MS - KEPT_DAYS + 1
        async with self._db.transaction() as tx:
            await store.delete_activity_before(tx, oldest)
            await store.delete_most_idle(tx, MAX_ROWS)
