"""How many people may use the server in a month, where the configuration says so: who is no longer among them is not let in.

spec: client-server-api/#common-error-codes `M_RESOURCE_LIMIT_EXCEEDED`, #server-notices (NOTICE-02)
"""

from __future__ import annotations

from typing import Final

from homeserver.accounts import usage_store as store
from homeserver.accounts.types import Account
from homeserver.matrix.errors import ResourceLimitExceeded
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

MONTH_MS: Final = 30 * 86_400_000
LIMIT_TYPE: Final = "monthly_active_user"
"""As clients know it."""
_VALID_MS: Final = 5_000
"""How long a count is good for, unless it leaves room for a few alone."""
_FEW: Final = 20


class UsageLimit:
    """Remembers the last count for some seconds: people are counted when somebody comes in, not with every request."""

    def __init__(self, db: Database, clock: Clock, most: int | None) -> None:
        """None: as many as there are."""
        self._db = db
        self._clock = clock
        self._most = most
        self._room = 0
        self._counted_ms = -_VALID_MS

    @property
    def since_ms(self) -> int:
        """Who was seen after this moment counts (ms since 1970)."""
        return self._clock.now_ms() - MONTH_MS

    async def is_reached(self) -> bool:
        """Whether nobody else is let in, counted now."""
        if self._most is None:
            return False
        await self._count()
        return self._room <= 0

    async def require_room(self, account: Account | None) -> None:
        """Raises `ResourceLimitExceeded` for who would be one too many. None: somebody who has no account yet.

        Administrators, application services' users and those who were here within the month are let in.
        """
        if self._most is None or (account is not None and await self._is_counted(account)):
            return
        if 0 < self._room <= _FEW or self._clock.now_ms() - self._counted_ms > _VALID_MS:
            await self._count()
        if self._room <= 0:
            raise ResourceLimitExceeded(
                "This server has as many people as it may have in a month", limit_type=LIMIT_TYPE
            )

    async def _is_counted(self, account: Account) -> bool:
        if account.is_admin or account.is_guest or account.appservice_id is not None:
            return True
        async with self._db.read() as tx:
            return await store.is_active(tx, account.user_nid, self.since_ms)

    async def _count(self) -> None:
        assert self._most is not None
        async with self._db.read() as tx:
            active = await store.count_active(tx, self.since_ms)
        self._room, self._counted_ms = self._most - active, self._clock.now_ms()
