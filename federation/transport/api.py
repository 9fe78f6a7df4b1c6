"""Endpoints that tell others where this server is and what it is.

spec: server-server-api/#getwell-knownmatrixserver, #server-implementation
"""

from __future__ import annotations

import msgspec

from homeserver.matrix.errors import NotFound
from homeserver.web.endpoint import Auth, endpoint
from homeserver.web.response import RawJson


class ServerInformationApi:
    """What this server says of itself to other servers."""

    def __init__(self, *, name: str, version: str, address: str | None) -> None:
        """`address`: where others find this server (`host` or `host:port`); None: nothing is published here."""
        self._version = RawJson(msgspec.json.encode({"server": {"name": name, "version": version}}))
        self._server = RawJson(msgspec.json.encode({"m.server": address})) if address else None

    @endpoint("getVersion", "GET", "/_matrix/federation/v1/version", auth=Auth.NONE)
    async def version(self) -> RawJson:
        """Tells which program this is."""
        return self._version

    @endpoint("getWellKnown", "GET", "/.well-known/matrix/server", auth=Auth.NONE)
    async def well_known(self) -> RawJson:
        """Tells other servers where this one is (CHECKLIST DISC-04)."""
        if self._server is None:
            raise NotFound("This server's address is not published here")
        return self._server
