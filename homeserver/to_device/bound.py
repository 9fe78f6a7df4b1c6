"""The bound on what waits for a device: one that is away for ever must not fill the disk.

Kept by sweeping now and then, not by counting at each message. docs/decisions/0007-to-device-bound.md says how much and why.
"""

from __future__ import annotations

import structlog

from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.to_device import store

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 600.0


class QueueBound:
    """Harmless in several processes at once."""

    def __init__(self, db: Database, clock: Clock, most: int) -> None:
        """`most`: messages that may wait for a device."""
        self._db = db
        self._clock = clock
        self._most = most

    async def sweep(self) -> int:
        """Drop what is too much: perishable messages first, the oldest first. Returns how many."""
        async with self._db.read() as tx:
            overfull = await store.find_overfull(tx, self._most)
        dropped = 0
        for user_nid, device_id, number in overfull:
            async with self._db.transaction() as tx:
                gone = await store.drop(tx, user_nid, device_id, number - self._most)
            _log.warning("to_device.dropped", user_nid=user_nid, device_id=device_id, messages=gone)
            dropped += gone
        return dropped
