"""Keeping push rules; every change is told to all devices as `m.push_rules` account data.

spec: client-server-api/#push-rules-api (PUSH-13)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from homeserver.account_data.entries import GLOBAL, PUSH_RULES, AccountDataEntry
from homeserver.account_data.service import AccountDataService
from homeserver.graph.interning import RoomIdentity
from homeserver.log.entries import Written
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.log.writer import LogWriter
from homeserver.matrix import json
from homeserver.matrix.errors import TooLarge
from homeserver.matrix.ids import UserId
from homeserver.push.defaults import Kind, Rule
from homeserver.push.ruleset import MAX_BYTES, Ruleset
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline
from homeserver.web.auth import Requester


class PushRuleService:
    """Changes push rules, which are account data. Keeps nothing in memory."""

    def __init__(self, db: Database, log: LogWriter, account_data: AccountDataService) -> None:
        self._db = db
        self._log = log
        self._account_data = account_data
        self._turns = KeyedLocks()

    async def whole(self, user_nid: int, user_id: UserId) -> dict[Kind, list[Rule]]:
        """All rules by kind, in the order they apply."""
        return (await self.ruleset(user_nid)).whole(user_id)

    async def ruleset(self, user_nid: int) -> Ruleset:
        """As it is stored; empty for who never changed anything."""
        async with self._db.read() as tx:
            data = await tx.value("SELECT rules FROM push_rules WHERE user_nid = %(user)s", user=user_nid)
        return Ruleset() if data is None else msgspec.json.decode(data, type=Ruleset)

    async def account_data(self, user_nid: int, user_id: UserId) -> bytes:
        """Content of `m.push_rules`."""
        return json.dumps({"global": await self.whole(user_nid, user_id)})

    async def copy_room_settings(self, requester: Requester, old: RoomIdentity, new: RoomIdentity) -> None:
        """A room replaces another one: the rules that are named after it (ROOM-27)."""
        if (await self.ruleset(requester.user_nid)).of_room(old.room_id):
            await self.change(requester, lambda rules: rules.copy_room(old.room_id, new.room_id))

    async def forget_user(self, user_nid: int, _user_id: UserId) -> None:
        """The account has ended."""
        async with self._db.transaction() as tx:
            await tx.execute("DELETE FROM push_rules WHERE user_nid = %(user)s", user=user_nid)

    async def use_threads(self, requester: Requester) -> None:
        """From now on the user has the rules that ask for subscriptions to threads (MSC4306)."""
        if not (await self.ruleset(requester.user_nid)).threads:
            await self.change(requester, _use_threads)

    async def change(self, requester: Requester, act: Callable[[Ruleset], None]) -> None:
        """Change the rules and tell the user's devices. Raises what `act` raises, and `TooLarge`."""

        async def once() -> None:
            await self._change(requester, act)

        await self._turns.changed(requester.user_nid, once)

    async def _change(self, requester: Requester, act: Callable[[Ruleset], None]) -> None:
        """Raises `Conflict` if somebody else changed them meanwhile, `TooLarge`."""
        told, _ = await self._account_data.placed(requester.user_nid, GLOBAL, PUSH_RULES)
        rules = await self.ruleset(requester.user_nid)
        act(rules)
        persisted = msgspec.json.encode(rules)
        if len(persisted) > MAX_BYTES:
            raise TooLarge(f"All push rules together have more than {MAX_BYTES} bytes")
        content = json.dumps({"global": rules.whole(requester.user_id)})

        def write(batch: Pipeline, _: Sequence[Written[Any]]) -> None:
            batch.execute(
                """
                INSERT INTO push_rules (user_nid, rules) VALUES (%(user)s, %(rules)s)
                ON CONFLICT (user_nid) DO UPDATE SET rules = excluded.rules
                """,
                user=requester.user_nid,
                rules=persisted,
            )

        entry = AccountDataEntry(requester.user_nid, GLOBAL, PUSH_RULES, content, told)
        await self._log.append(entry, alongside=write)


def _use_threads(rules: Ruleset) -> None:
    rules.threads = True
