"""Which devices there are, as far as messages were sent to them: who sends keys to a room sends to the same devices again.

What is remembered may have ended meanwhile, in another process or in this moment: a message for it is written to the log and
nowhere else (`store.insert` looks), as one is that meets the end of its device. What is not remembered is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.sessions.entries import SessionsChanged
from homeserver.storage.database import Database
from homeserver.to_device import store

SHARE = 0.5
USER_BYTES, DEVICE_BYTES = 300, 120
"""What a user takes in memory, and each device."""


class KnownDevices:
    """A projection of the log, by which it forgets who has logged out."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._known: Cache[int, set[str]] = memory.cache("known_devices", SHARE)

    def handlers(self) -> dict[type[Entry], Handler]:
        return {SessionsChanged: self._changed}

    def reset(self) -> None:
        self._known.clear()

    def _changed(self, _: Position, entry: Any) -> None:
        self._known.pop(entry.user_nid)

    async def find(self, everywhere: Sequence[int], named: Sequence[tuple[int, str]]) -> dict[int, list[str]]:
        """user_nid -> all devices of these users, and of those of other users that are named, where they exist.

        No query where only devices are named that are known.
        """
        devices: dict[int, list[str]] = {}
        asked: list[tuple[int, str]] = []
        for user_nid, device_id in named:
            known = self._known.get(user_nid)
            if known is not None and device_id in known:
                devices.setdefault(user_nid, []).append(device_id)
            else:
                asked.append((user_nid, device_id))
        if everywhere or asked:
            async with self._db.read() as tx:
                rows = await store.find_devices(tx, everywhere, asked)
            for user_nid, device_id in rows:
                devices.setdefault(user_nid, []).append(device_id)
                self._remember(user_nid, device_id)
        return devices

    def _remember(self, user_nid: int, device_id: str) -> None:
        known = self._known.get(user_nid)
        if known is None:
            known = set()
        known.add(device_id)
        self._known.put(user_nid, known, USER_BYTES + DEVICE_BYTES * len(known))
