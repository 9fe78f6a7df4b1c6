"""When and from where each device was last seen, written in batches (CHECKLIST DEV-03).

Owns what was noted since the last flush. A crash loses at most `FLUSH_SECONDS` of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog

from homeserver.matrix.ids import DeviceId
from homeserver.runtime.clock import Clock
from homeserver.sessions import store
from homeserver.storage.batches import write_apart
from homeserver.storage.database import Database
from homeserver.storage.encoding import storable

_log = structlog.get_logger("atrium.auth")

FLUSH_SECONDS = 60.0
MAX_NOTED = 50_000
"""Devices noted between two flushes; beyond, the oldest notes are lost."""
WRITE_AT_ONCE = 2_000


class Seen(NamedTuple):
    """One sighting."""

    at_ms: int
    ip: str
    agent: str


class LastSeen:
    """What this process has seen; `flush` must be called now and then."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._noted: dict[tuple[int, DeviceId], Seen] = {}
        self._flushing = asyncio.Lock()

    def note(self, user_nid: int, device_id: DeviceId, seen: Seen) -> None:
        """Remember a sighting; no I/O."""
        if len(self._noted) >= MAX_NOTED and (user_nid, device_id) not in self._noted:
            del self._noted[next(iter(self._noted))]
        # A header may hold bytes that are no text; one such note would keep all others from being written.
        self._noted[user_nid, device_id] = seen._replace(agent=storable(seen.agent))

    def of(self, user_nid: int, device_id: DeviceId) -> Seen | None:
        """What was noted here and is not written yet."""
        return self._noted.get((user_nid, device_id))

    async def flush(self) -> None:
        """Write what was noted. Raises what the database says; the notes stay then. A note that it refuses is lost alone."""
        async with self._flushing:
            while self._noted:
                batch = list(self._noted.items())[:WRITE_AT_ONCE]
                for ((user_nid, _), _), error in await write_apart(batch, self._write):
                    _log.warning("last_seen_refused", user_nid=user_nid, error=type(error).__name__)
                for key, seen in batch:
                    if self._noted.get(key) is seen:
                        del self._noted[key]

    async def _write(self, batch: Sequence[tuple[tuple[int, DeviceId], Seen]]) -> None:
        rows = [(nid, device, seen.at_ms, seen.ip, seen.agent) for (nid, device), seen in batch]
        async with self._db.transaction() as tx:
            await store.update_last_seen(tx, rows)
