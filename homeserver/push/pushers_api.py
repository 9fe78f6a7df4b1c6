"""Endpoints of pushers. Nobody is notified elsewhere yet: there are none, and none can be set.

spec: client-server-api/#receiving-notifications
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.web.auth import Auth
from homeserver.web.endpoint import endpoint


class Pushers(msgspec.Struct):
    """spec: op:getPushers."""

    pushers: list[dict[str, Any]]


class PushersApi:
    """What a server without pushers answers: clients show no settings at all when this fails."""

    @endpoint("getPushers", "GET", "/_matrix/client/{v}/pushers", auth=Auth.USER, limit="default")
    async def list_pushers(self) -> Pushers:
        """Lists none."""
        return Pushers([])
