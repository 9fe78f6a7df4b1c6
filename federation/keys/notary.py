"""Being asked what this server knows of the keys of others: the notary's side.

spec: server-server-api/#querying-keys-through-another-server (CHECKLIST FED-06)
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

from federation.keys import store
from federation.keys.own import OwnKeys
from federation.keys.ring import KeyRing
from federation.keys.types import KeyQuery
from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import ServerName, is_server_name
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.web.rate_limit import RateLimiter

ANY_KEY: Final = ""
"""Stands for all keys of a server where a validity is asked for."""
AT_ONCE: Final = 10
"""Servers asked at the same time because strangers want to know: far fewer than are asked for this server's own sake."""
MAX_REFRESHING: Final = 500
"""Servers that wait to be asked so; beyond, what is kept is told."""
MAX_SERVERS: Final = 100
"""Of one request."""


class NotaryService:
    """Answers from what is kept, and asks servers whose keys are not known or have become old."""

    def __init__(self, own: OwnKeys, ring: KeyRing, db: Database, clock: Clock, limiter: RateLimiter) -> None:
        self._limiter = limiter
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._refreshing = 0
        self._own = own
        self._ring = ring
        self._db = db
        self._clock = clock

    async def query(self, wanted: Mapping[str, KeyQuery], address: str) -> list[dict[str, Any]]:
        """Answers of the servers named, with our signature beside theirs; nothing of who is not known. `address`: of who asks.

        Raises `InvalidParam`, and `LimitExceeded` where others would have to be asked too often for one address.
        """
        if len(wanted) > MAX_SERVERS:
            raise InvalidParam(f"server_keys: more than {MAX_SERVERS} servers")
        for name in wanted:
            if not is_server_name(name):
                raise InvalidParam("server_keys: not a server name")
        others = {ServerName(name): query for name, query in wanted.items() if name != self._own.server_name}
        rows = await self._find(others)
        stale = [name for name, query in others.items() if self._is_stale(rows.get(name, ()), query)]
        if stale:
            self._limiter.hit_address("key_query", address, cost=len(stale))
        if stale and self._refreshing + len(stale) <= MAX_REFRESHING:
            await asyncio.gather(*(self._refresh(name) for name in stale))
            rows = await self._find(others)
        answers = [] if len(others) == len(wanted) else [self._own.response(self._clock.now_ms())]
        for found in rows.values():
            for row in found:
                answers.append(self._own.sign(json.loads(row.response)))
                if len(answers) % 10 == 0:
                    await next_turn()
        return answers

    async def _refresh(self, server_name: ServerName) -> None:
        self._refreshing += 1
        try:
            async with self._turns:
                await self._ring.refresh(server_name)
        finally:
            self._refreshing -= 1

    async def _find(self, names: Collection[ServerName]) -> dict[ServerName, list[store.ResponseRow]]:
        if not names:
            return {}
        async with self._db.read() as tx:
            rows = await store.find_responses(tx, names)
        found: dict[ServerName, list[store.ResponseRow]] = {}
        for row in rows:
            found.setdefault(ServerName(row.server_name), []).append(row)
        return found

    def _is_stale(self, rows: Collection[store.ResponseRow], query: KeyQuery) -> bool:
        """spec: op:getServerKey: a notary keeps an answer for half of its lifetime; op:perspectivesKeyQuery: as valid as asked"""
        now = self._clock.now_ms()
        if not rows:
            return True
        newest = max(rows, key=lambda row: row.received_ts)
        if now > newest.received_ts + (newest.valid_until_ts - newest.received_ts) // 2:
            return True
        known = {key_id for row in rows for key_id in row.key_ids}
        least = max((key.minimum_valid_until_ts or now for key in query.values()), default=now)
        return newest.valid_until_ts < least or not query.keys() - {ANY_KEY} <= known
