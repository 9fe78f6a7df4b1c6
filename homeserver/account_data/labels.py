"""Projection: what users say of their rooms, by which sliding sync filters them.

spec: client-server-api/#direct-messaging, #room-tagging
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.account_data import store
from homeserver.account_data.entries import AccountDataEntry
from homeserver.account_data.service import DIRECT, TAGS
from homeserver.log.entries import Entry, Position
from homeserver.log.remembered import Remembered
from homeserver.matrix import json
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.sync.sliding.ports import Labels

SHARE = 0.3
USER_BYTES, ROOM_BYTES = 500, 250
"""What a user takes in the cache, and each room or tag that they name."""
AT_ONCE = 16 * 1024
"""Bytes of content that are read without letting others go on."""


class LabelsOfRooms:
    """A projection of account data: direct messages and tags of users who are about; a bounded cache."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._users: Remembered[int, Labels] = Remembered(memory.cache("labels_of_rooms", SHARE))

    async def of(self, user_nid: int) -> Labels:
        """What they say of their rooms."""
        found = self._users.get(user_nid)
        if found is not None:
            return found
        version = self._users.version
        async with self._db.read() as tx:
            rows = await store.find_of_all_rooms(tx, user_nid, [DIRECT, TAGS])
        direct: frozenset[str] = frozenset()
        tags: dict[int, frozenset[str]] = {}
        for row in rows:
            if len(row.content) > AT_ONCE:
                await next_turn()
            content = json.loads(row.content)
            if row.type == DIRECT and not row.room_nid:
                rooms = (each for listed in content.values() if isinstance(listed, list) for each in listed)
                direct = frozenset(each for each in rooms if isinstance(each, str))
            elif row.type == TAGS and row.room_nid:
                named = content.get("tags")
                tags[row.room_nid] = frozenset(named) if isinstance(named, dict) else frozenset()
        found = Labels(direct, tags)
        said = len(direct) + sum(1 + len(each) for each in tags.values())
        self._users.add(user_nid, found, version, USER_BYTES + ROOM_BYTES * said)
        return found

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {AccountDataEntry: self._changed}

    def reset(self) -> None:
        self._users.reset()

    def _changed(self, _: Position, entry: AccountDataEntry) -> None:
        if entry.type in (DIRECT, TAGS):
            self._users.changed(entry.user_nid)
