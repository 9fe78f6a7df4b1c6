"""Endpoints of keys: our own, asked for by anybody.

spec: server-server-api/#getmatrixkeyv2server
"""

from __future__ import annotations

from federation.keys.own import OwnKeys
from homeserver.web.endpoint import Auth, endpoint
from homeserver.web.response import RawJson


class KeyApi:
    """What is told of keys."""

    def __init__(self, own: OwnKeys) -> None:
        self._own = own

    @endpoint("getServerKey", "GET", "/_matrix/key/v2/server", auth=Auth.NONE)
    async def server_key(self) -> RawJson:
        """Tells the keys of this server (CHECKLIST FED-05)."""
        return RawJson(self._own.published())
