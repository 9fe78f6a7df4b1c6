"""Projection: whom each user ignores, and whether they let others invite them.

spec: client-server-api/#ignoring-users, #invite-permission (MOD-03, MOD-04)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from homeserver.account_data import store
from homeserver.account_data.entries import GLOBAL, AccountDataEntry
from homeserver.graph.interning import Interning
from homeserver.log.entries import Entry, Position
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.database import Database

IGNORED = "m.ignored_user_list"
INVITES = "m.invite_permission_config"
CACHE_USERS = 20_000


class Ignores:
    """One per process: the ignored users of those who sync here."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._users: OrderedDict[int, frozenset[str]] = OrderedDict()
        self._version = 0

    async def of(self, user_nid: int) -> frozenset[str]:
        """User ids."""
        found = self._users.get(user_nid)
        if found is not None:
            return found
        version = self._version
        async with self._db.read() as tx:
            content = await store.find(tx, user_nid, GLOBAL, IGNORED)
        found = _ignored(content)
        if version == self._version:  # nobody has changed anything meanwhile
            self._users[user_nid] = found
            if len(self._users) > CACHE_USERS:
                self._users.popitem(last=False)
        return found

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {AccountDataEntry: self._changed}

    def reset(self) -> None:
        self._version += 1
        self._users.clear()

    def _changed(self, _: Position, entry: AccountDataEntry) -> None:
        if entry.type == IGNORED and entry.room_nid == GLOBAL:
            self._version += 1
            self._users.pop(entry.user_nid, None)


class InvitePermissions:
    """Who may invite whom, by what users say of themselves."""

    def __init__(self, db: Database, interning: Interning) -> None:
        self._db = db
        self._interning = interning

    async def blocks(self, invitee: UserId, inviter: UserId) -> bool:
        """Whether the invitee wants no invites. spec: `default_action: block`"""
        del inviter
        nid = (await self._interning.find_user_nids([invitee])).get(invitee)
        if nid is None:
            return False
        async with self._db.read() as tx:
            content = await store.find(tx, nid, GLOBAL, INVITES)
        return content is not None and json.loads(content).get("default_action") == "block"


def _ignored(content: bytes | None) -> frozenset[str]:
    users = json.loads(content).get("ignored_users") if content else None
    return frozenset(users) if isinstance(users, dict) else frozenset()
