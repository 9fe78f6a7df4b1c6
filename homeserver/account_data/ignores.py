"""Projection: whom each user ignores, and whether they want to be invited.

spec: client-server-api/#ignoring-users, #invite-permission (MOD-03, MOD-04)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeserver.account_data import store
from homeserver.account_data.entries import GLOBAL, IGNORED, AccountDataEntry
from homeserver.graph.interning import Interning
from homeserver.log.entries import Entry, Position
from homeserver.log.remembered import Remembered
from homeserver.matrix import json
from homeserver.matrix.errors import InviteBlocked
from homeserver.matrix.ids import UserId
from homeserver.policy.types import ALLOW, Act, Check, Kind, Refuse, Verdict
from homeserver.runtime.cache import MemoryBudget
from homeserver.storage.database import Database
from homeserver.sync.types import Unwanted

INVITES = "m.invite_permission_config"
SHARE = 0.3
USER_BYTES, IGNORED_BYTES = 400, 150
"""What a user takes in the cache, and each whom they ignore."""


class Ignores:
    """A projection of account data: of users who sync at this process, whom they ignore, whether they take invites."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._users: Remembered[int, Unwanted] = Remembered(memory.cache("ignored_users", SHARE))

    async def of(self, user_nid: int) -> Unwanted:
        """Whom they ignore, and whether they want invites."""
        found = self._users.get(user_nid)
        if found is not None:
            return found
        version = self._users.version
        async with self._db.read() as tx:
            rows = {row.type: row for row in await store.find_types(tx, user_nid, [IGNORED, INVITES])}
            ignored = ignored_in(rows[IGNORED].content) if IGNORED in rows else frozenset[str]()
            if ignored:  # nobody ignores themselves, though some clients write it
                ignored -= {await store.find_user_id(tx, user_nid)}
        found = Unwanted(
            ignored,
            INVITES in rows and _blocks(rows[INVITES].content),
            max((row.position for row in rows.values()), default=0),
        )
        self._users.add(user_nid, found, version, USER_BYTES + IGNORED_BYTES * len(ignored))
        return found

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {AccountDataEntry: self._changed}

    def reset(self) -> None:
        self._users.reset()

    def _changed(self, _: Position, entry: AccountDataEntry) -> None:
        if entry.type in (IGNORED, INVITES) and entry.room_nid == GLOBAL:
            self._users.changed(entry.user_nid)


class InvitePermissions:
    """Nobody is invited who wants no invites, however the invite is written, and from wherever it comes."""

    def __init__(self, ignores: Ignores, interning: Interning) -> None:
        self._ignores = ignores
        self._interning = interning
        self._always: set[UserId] = set()

    def let(self, user_id: UserId) -> None:
        """Whoever it is invites everybody: the server itself."""
        self._always.add(user_id)

    @property
    def check(self) -> Check:
        """See `Manifest.policy`."""
        return Check(
            name="account_data.invites",
            kinds={Kind.INVITE},
            decide=self._decide,
            when_failing="refuse",
            elsewhere=True,
        )

    async def _decide(self, act: Act) -> Verdict:
        """spec: client-server-api/#invite-permission: `default_action: block`"""
        assert act.target is not None
        if act.actor in self._always:
            return ALLOW
        nid = (await self._interning.find_user_nids([act.target])).get(act.target)
        if nid is not None and (await self._ignores.of(nid)).all_invites:
            return Refuse(InviteBlocked(f"{act.target} does not want to be invited"))
        return ALLOW


def ignored_in(content: bytes) -> frozenset[str]:
    """User ids that a list of ignored users names."""
    users = json.loads(content).get("ignored_users")
    return frozenset(users) if isinstance(users, dict) else frozenset()


def _blocks(content: bytes) -> bool:
    return bool(json.loads(content).get("default_action") == "block")
