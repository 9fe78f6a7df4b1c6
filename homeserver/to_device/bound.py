"""The bounds on what waits for devices, in messages and in bytes: one that is away for ever must not fill the disk.

Kept by sweeping now and then, and when much has come, not by counting at each message.
docs/decisions/0007-to-device-bound.md says how much and why.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.to_device import store

_log = structlog.get_logger(__name__)

EVERY_SECONDS = 600.0
DEVICES = 4
"""What waits for all devices of a person together is bounded by so many times what may wait for one."""


class Most(NamedTuple):
    """What may wait for a device."""

    messages: int
    size: int
    """Bytes."""


class QueueBound:
    """Harmless in several processes at once."""

    def __init__(self, db: Database, clock: Clock, most: Most) -> None:
        self._db = db
        self._clock = clock
        self._most = most

    async def sweep(self) -> int:
        """Drop what is too much: perishable messages first, the oldest first. Returns how many."""
        async with self._db.read() as tx:
            queues = await store.find_overfull(tx, self._most.messages, self._most.size)
        dropped = 0
        for user_nid, device_id, messages, size in queues:
            excess = Most(messages - self._most.messages, size - self._most.size)
            dropped += await self._drop(user_nid, device_id, excess)
        async with self._db.read() as tx:
            people = await store.find_overfull_users(tx, DEVICES * self._most.size)
        for user_nid, size in people:
            dropped += await self._drop(user_nid, None, Most(0, size - DEVICES * self._most.size))
        return dropped

    async def _drop(self, user_nid: int, device_id: str | None, excess: Most) -> int:
        async with self._db.transaction() as tx:
            gone = await store.drop(tx, user_nid, device_id, excess.messages, excess.size)
        _log.warning("to_device.dropped", user_nid=user_nid, device_id=device_id, messages=gone)
        return gone
