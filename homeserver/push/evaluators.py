"""Projection: the plans of those who are about. Most users share one, that of the default rules.

spec: client-server-api/#push-rules
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from homeserver.account_data.entries import GLOBAL, PUSH_RULES, AccountDataEntry
from homeserver.account_data.past import past_contents
from homeserver.log.entries import Entry, Position
from homeserver.log.remembered import Remembered
from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.push import store
from homeserver.push.defaults import default_rules
from homeserver.push.evaluator import Evaluator, make_evaluator
from homeserver.push.past_rules import Past
from homeserver.push.ruleset import Ruleset
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx
from homeserver.threads.entries import ThreadSubscriptionEntry

SHARE = 0.5
USER_BYTES, COMPILED = 400, 10
"""What a user takes in a cache, and how many bytes each byte of rules becomes when they are compiled."""
THREAD_BYTES = 150
"""What a thread takes that a user is subscribed to."""
MAX_REMEMBERED = 32 * 1024
"""Bytes of rules of before that are remembered."""
DEFAULT_EVALUATOR: Final = make_evaluator(default_rules(UserId("@anybody:any.example")))
"""What depends on the user in the default rules is in the facts of events."""


class UserEvaluator(NamedTuple):
    """A user's plan."""

    evaluator: Evaluator
    since: Position
    """Where the rules were changed last; 0: never."""


class Evaluators:
    """A projection: the compiled push rules of users, as they are and as they were; a bounded cache."""

    def __init__(self, db: Database, memory: MemoryBudget) -> None:
        self._db = db
        self._users: Remembered[int, UserEvaluator] = Remembered(memory.cache("push_rules", SHARE))
        self._past: Cache[tuple[int, Position], Evaluator] = memory.cache("past_push_rules", SHARE)

    async def of(self, user_nid: int, user_id: UserId) -> UserEvaluator:
        """The plan of a user; the same object until the rules change."""
        found = self._users.get(user_nid)
        if found is not None:
            return found
        version = self._users.version
        async with self._db.read() as tx:
            rules, since, threads = await store.find_rules(tx, user_nid)
        found = UserEvaluator(_compiled(rules, user_id, threads), since)
        self._users.add(user_nid, found, version, _size_of(rules, len(threads)))
        return found

    async def of_many(self, users: Mapping[int, UserId]) -> dict[int, UserEvaluator]:
        """The plans of some users, by user_nid. `users`: user_nid -> their id. One query for all that are not in memory."""
        found = {nid: user for nid in users if (user := self._users.get(nid)) is not None}
        missing = [nid for nid in users if nid not in found]
        if missing:
            version = self._users.version
            async with self._db.read() as tx:
                rows = await store.find_rules_of(tx, missing)
            for nid, rules, since, threads in rows:
                evaluator = _compiled(rules, users[nid], threads)
                found[nid] = user = UserEvaluator(evaluator, since)
                self._users.add(nid, user, version, _size_of(rules, len(threads)))
                if rules is not None:
                    await asyncio.sleep(0)  # each may be large
        return found

    def is_current(self, user_nid: int, user: UserEvaluator) -> bool:
        """Whether the rules are still those."""
        return self._users.get(user_nid) is user

    async def past(self, tx: Tx, user_nid: int, after: Position) -> Past:
        """Rules of before, for events that came after a position. They never change: what is small is remembered."""
        found: list[tuple[Position, Evaluator]] = []
        user = self._users.get(user_nid)
        threads = user.evaluator.threads if user is not None else frozenset[str]()
        for upto, content in await past_contents(tx, user_nid, PUSH_RULES, after):
            evaluator = self._past.get((user_nid, upto))
            if evaluator is None:
                evaluator = _of_content(content, threads)
                if len(content or b"") <= MAX_REMEMBERED and not threads:  # which are those of today
                    self._past.put((user_nid, upto), evaluator, _size_of(content))
                await asyncio.sleep(0)  # each may be large
            found.append((upto, evaluator))
        return found

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {AccountDataEntry: self._changed, ThreadSubscriptionEntry: self._subscribed}

    def reset(self) -> None:
        self._users.reset()
        self._past.clear()

    def _changed(self, _: Position, entry: AccountDataEntry) -> None:
        if entry.type == PUSH_RULES and entry.room_nid == GLOBAL:
            self._users.changed(entry.user_nid)

    def _subscribed(self, _: Position, entry: ThreadSubscriptionEntry) -> None:
        self._users.changed(entry.user_nid)


def _compiled(rules: bytes | None, user_id: UserId, threads: Collection[str]) -> Evaluator:
    """Of rules as they are stored; None: those of who never changed any."""
    if rules is None:
        return DEFAULT_EVALUATOR
    return make_evaluator(msgspec.json.decode(rules, type=Ruleset).whole(user_id), frozenset(threads))


def _size_of(rules: bytes | None, threads: int = 0) -> int:
    """Bytes, about, of what is compiled from rules; those who have none share the default ones."""
    return USER_BYTES + COMPILED * len(rules or b"") + THREAD_BYTES * threads


def _of_content(content: bytes | None, threads: Collection[str]) -> Evaluator:
    """Of what `m.push_rules` was; the default rules if there was none."""
    rules = json.loads(content).get("global") if content else None
    return make_evaluator(rules, threads) if isinstance(rules, dict) else DEFAULT_EVALUATOR
