"""Endpoints of presence.

spec: client-server-api/#get_matrixclientv3presenceuseridstatus
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import UserId
from homeserver.presence.service import ACTIVE_MS, PresenceService, State
from homeserver.runtime.clock import Clock
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, endpoint

STATUS = "/_matrix/client/{v}/presence/{userId}/status"


class Wanted(msgspec.Struct):
    """How the user wants to appear."""

    presence: State
    status_msg: str | None = None


class PresenceApi:
    """How somebody is."""

    def __init__(self, presence: PresenceService, clock: Clock) -> None:
        self._presence = presence
        self._clock = clock

    @endpoint("getPresence", "GET", STATUS, auth=Auth.USER)
    async def get(self, requester: Requester, user_id: Path[UserId]) -> dict[str, Any]:
        row = await self._presence.get(requester, user_id)
        ago = max(0, self._clock.now_ms() - row.last_active_ms)
        found: dict[str, Any] = {"presence": row.presence}
        if row.last_active_ms:
            found["last_active_ago"] = ago
        if row.presence == "online":
            found["currently_active"] = ago < ACTIVE_MS
        if row.status_msg:
            found["status_msg"] = row.status_msg
        return found

    @endpoint("setPresence", "PUT", STATUS, auth=Auth.USER)
    async def set(self, requester: Requester, user_id: Path[UserId], body: Body[Wanted]) -> None:
        if user_id != requester.user_id:
            raise Forbidden("Only your own presence")
        await self._presence.set(requester, body.presence, body.status_msg)
