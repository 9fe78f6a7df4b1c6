"""Endpoints by which administrators lock, suspend and look at accounts.

spec: client-server-api/#server-administration (CHECKLIST ACC-04, ACC-05)
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.accounts.service import AccountService
from homeserver.devices.service import DeviceService
from homeserver.matrix.errors import Forbidden, InvalidParam, NotFound
from homeserver.matrix.ids import UserId
from homeserver.web.auth import AdminRequester, Requester
from homeserver.web.endpoint import Auth, Body, Path, endpoint

_LOCK = (
    "/_matrix/client/v1/admin/lock/{userId}",
    "/_matrix/client/unstable/uk.timedout.msc4323/admin/lock/{userId}",
)
_SUSPEND = (
    "/_matrix/client/v1/admin/suspend/{userId}",
    "/_matrix/client/unstable/uk.timedout.msc4323/admin/suspend/{userId}",
)


_SYNAPSE_SUSPEND = "/_synapse/admin/v1/suspend/{userId}"


class SuspendBody(msgspec.Struct):
    """As Synapse's admin API has it."""

    suspend: bool


class Locked(msgspec.Struct):
    locked: bool


class Suspended(msgspec.Struct):
    suspended: bool


class ModerationApi:
    """Locking, suspending, whois."""

    def __init__(self, accounts: AccountService, devices: DeviceService) -> None:
        self._accounts = accounts
        self._devices = devices

    @endpoint("getAdminLockUser", "GET", _LOCK, auth=Auth.ADMIN)
    async def get_lock(self, admin: AdminRequester, user_id: Path[str]) -> Locked:
        """Tells whether a user is locked."""
        return Locked(locked=(await self._accounts.to_moderate(admin, user_id, change=False)).locked)

    @endpoint("setAdminLockUser", "PUT", _LOCK, auth=Auth.ADMIN)
    async def set_lock(self, admin: AdminRequester, user_id: Path[str], body: Body[Locked]) -> Locked:
        """Locks a user out, or lets them in again; sessions survive both."""
        account = await self._accounts.to_moderate(admin, user_id, change=True)
        await self._accounts.set_flags(account.user_nid, locked=body.locked)
        return body

    @endpoint("getAdminSuspendUser", "GET", _SUSPEND, auth=Auth.ADMIN)
    async def get_suspension(self, admin: AdminRequester, user_id: Path[str]) -> Suspended:
        """Tells whether a user is suspended."""
        return Suspended(suspended=(await self._accounts.to_moderate(admin, user_id, change=False)).suspended)

    @endpoint("setAdminSuspendUser", "PUT", _SUSPEND, auth=Auth.ADMIN)
    async def set_suspension(
        self, admin: AdminRequester, user_id: Path[str], body: Body[Suspended]
    ) -> Suspended:
        """Keeps a user from acting, or lets them act again."""
        account = await self._accounts.to_moderate(admin, user_id, change=True)
        await self._accounts.set_flags(account.user_nid, suspended=body.suspended)
        return body

    @endpoint("suspendAccount", "PUT", _SYNAPSE_SUSPEND, auth=Auth.ADMIN)
    async def suspend(
        self, admin: AdminRequester, user_id: Path[str], body: Body[SuspendBody]
    ) -> dict[str, bool]:
        """The same for tools that speak Synapse's admin API, "Suspend/Unsuspend Account"."""
        account = await self._accounts.to_moderate(admin, user_id, change=True)
        await self._accounts.set_flags(account.user_nid, suspended=body.suspend)
        return {f"user_{user_id}_suspended": body.suspend}

    @endpoint("getWhoIs", "GET", "/_matrix/client/{v}/admin/whois/{userId}", auth=Auth.USER, limit="default")
    async def whois(self, requester: Requester, user_id: Path[str]) -> dict[str, Any]:
        """Tells from where a user's devices were last seen: to themselves and to administrators."""
        if user_id != requester.user_id and not requester.is_admin:
            raise Forbidden("You are not a server administrator")
        if not self._accounts.is_local(user_id):
            raise InvalidParam("User does not belong to the local server")
        account = await self._accounts.find(UserId(user_id))
        if account is None:
            raise NotFound("User not found")
        devices: dict[str, Any] = {}
        for device, agent in await self._devices.connections(account.user_nid):
            seen = {"ip": device.last_seen_ip, "last_seen": device.last_seen_ts, "user_agent": agent}
            connection = {key: value for key, value in seen.items() if value is not None}
            devices[device.device_id] = {"sessions": [{"connections": [connection] if connection else []}]}
        return {"user_id": user_id, "devices": devices}
