"""Endpoints by which administrators give a user a rate of their own, or none: bots that write much, people who write too much.

As Synapse's admin API has them ("Override ratelimiting for users"); 0 messages per second lifts all limits by person.
"""

from __future__ import annotations

import msgspec

from homeserver.accounts.service import AccountService
from homeserver.accounts.types import OwnRate
from homeserver.matrix.errors import InvalidParam
from homeserver.web.auth import AdminRequester
from homeserver.web.endpoint import Auth, Body, EmptyObject, Path, endpoint

_PATH = "/_synapse/admin/v1/users/{userId}/override_ratelimit"
_MOST = 1_000_000


class Override(msgspec.Struct):
    """`messages_per_second` acts of each class in the long run, `burst_count` at once. Both 0: no limit."""

    messages_per_second: float = 0
    burst_count: int = 0


class RatesAdminApi:
    """Rates of single users."""

    def __init__(self, accounts: AccountService) -> None:
        self._accounts = accounts

    @endpoint("getRateOverride", "GET", _PATH, auth=Auth.ADMIN)
    async def get(self, admin: AdminRequester, user_id: Path[str]) -> Override | EmptyObject:
        """Tells a user's own rate; empty: they have none."""
        account = await self._accounts.to_moderate(admin, user_id, change=False)
        rate = await self._accounts.own_rate(account.user_nid)
        if rate is None:
            return EmptyObject()
        return Override(messages_per_second=rate.per_second, burst_count=rate.burst)

    @endpoint("setRateOverride", "POST", _PATH, auth=Auth.ADMIN)
    async def set(self, admin: AdminRequester, user_id: Path[str], body: Body[Override]) -> Override:
        """Gives a user a rate of their own, in all classes of limits that count people."""
        if not 0 <= body.messages_per_second <= _MOST or not 0 <= body.burst_count <= _MOST:
            raise InvalidParam(f"messages_per_second and burst_count are at least 0 and at most {_MOST}")
        if body.burst_count and not body.messages_per_second:
            raise InvalidParam("messages_per_second: 0 lifts the limits; burst_count must be 0 too")
        account = await self._accounts.to_moderate(admin, user_id, change=False)
        rate = OwnRate(body.messages_per_second, max(body.burst_count, 1 if body.messages_per_second else 0))
        await self._accounts.set_own_rate(account.user_nid, rate)
        return Override(messages_per_second=rate.per_second, burst_count=rate.burst)

    @endpoint("deleteRateOverride", "DELETE", _PATH, auth=Auth.ADMIN)
    async def delete(self, admin: AdminRequester, user_id: Path[str]) -> EmptyObject:
        """Lets the limits of everybody hold for a user again."""
        account = await self._accounts.to_moderate(admin, user_id, change=False)
        await self._accounts.set_own_rate(account.user_nid, None)
        return EmptyObject()
