"""Throwing away what has expired: OpenID tokens and nonces, and what else is plugged in (login tokens, …)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from homeserver.accounts import store
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

EVERY_SECONDS = 600.0


class Housekeeping:
    """Knows all that expires."""

    def __init__(self, db: Database, clock: Clock, *others: Callable[[], Awaitable[None]]) -> None:
        """`others`: further things that expire."""
        self._db = db
        self._clock = clock
        self._others = others

    async def clean(self) -> None:
        """Once. Raises what the database says."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction() as tx:
            await store.delete_expired(tx, now_ms)
        for clean in self._others:
            await clean()
