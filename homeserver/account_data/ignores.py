"""Projection: whom each user ignores, and whether they want to be invited.

spec: client-server-api/#ignoring-users, #invite-permission (MOD-03, MOD-04)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from homeserver.runtime.turns import pieces
from homeserver.storage.database import Database
from homeserver.sync.types import Unwanted

INVITES = "m.invite_permission_config"
SHARE = 0.3
AT_ONCE = 50
"""Users whose lists are read together: each may be large."""
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
        return found if found is not None else (await self._load([user_nid]))[user_nid]

    async def prepare(self, user_nids: Iterable[int]) -> None:
        """Have that of some users in memory, as far as it reaches: one query for many."""
        for some in pieces([nid for nid in user_nids if self._users.get(nid) is None], AT_ONCE):
            await self._load(some)

    async def _load(self, user_nids: Sequence[int]) -> dict[int, Unwanted]:
        version = self._users.version
        rows: dict[int, dict[str, tuple[Position, bytes]]] = {nid: {} for nid in user_nids}
        found: dict[int, Unwanted] = {}
        async with self._db.read() as tx:
            for user_nid, kind, position, content in await store.find_types(
                tx, user_nids, [IGNORED, INVITES]
            ):
                rows[user_nid][kind] = (position, content)
            for user_nid, own in rows.items():
                ignored = ignored_in(own[IGNORED][1]) if IGNORED in own else frozenset[str]()
                if ignored:  # nobody ignores themselves, though some clients write it
                    ignored -= {await store.find_user_id(tx, user_nid)}
                blocks = INVITES in own and _blocks(own[INVITES][1])
                since = max((position for position, _ in own.values()), default=0)
                found[user_nid] = Unwanted(ignored, blocks, since)
        for user_nid, unwanted in found.items():
            size = USER_BYTES + IGNORED_BYTES * len(unwanted.ignored)
            self._users.add(user_nid, unwanted, version, size)
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
