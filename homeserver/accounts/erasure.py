"""Whose events are shown stripped to whoever was not in the room with them: users who asked for it when they left.

Fulfils `graph.visibility.Erasures`. A projection: who is erased stays so, hence what is remembered only grows.

spec: op:deactivateAccount `erase` (CHECKLIST AUTH-29)
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from homeserver.accounts import store
from homeserver.log.entries import Entry, Position, StructSink
from homeserver.storage.database import Database


class UserErased(Entry, frozen=True):
    """An account has ended with the wish to be erased."""

    user_nid: int


class UserErasedSink(StructSink[UserErased]):
    """Nothing but the feed: the account's row is written alongside."""

    kind = "erased"
    entry_type = UserErased


class ErasedUsers:
    """A projection: the numbers of all users who were ever erased, loaded when first asked for."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._users: set[int] = set()
        self._loaded = False

    async def users(self) -> AbstractSet[int]:
        """user_nids. Not a copy: it grows."""
        if not self._loaded:
            async with self._db.read() as tx:
                self._users.update(await store.find_erased(tx))
            self._loaded = True
        return self._users

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {UserErased: self._erased}

    def reset(self) -> None:
        self._loaded = False

    def _erased(self, _: Position, entry: UserErased) -> None:
        self._users.add(entry.user_nid)
