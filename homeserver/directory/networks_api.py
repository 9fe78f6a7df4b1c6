"""Endpoints of third-party networks. Bridges would offer them; none is connected.

spec: client-server-api/#third-party-networks
"""

from __future__ import annotations

from typing import Any, Final

from homeserver.matrix.errors import NotFound
from homeserver.web.auth import Auth
from homeserver.web.endpoint import Path, endpoint

_BASE: Final = "/_matrix/client/{v}/thirdparty"


class NetworksApi:
    """What a server without bridges answers."""

    @endpoint("getProtocols", "GET", _BASE + "/protocols", auth=Auth.USER)
    async def protocols(self) -> dict[str, Any]:
        """Lists none."""
        return {}

    @endpoint("getProtocolMetadata", "GET", _BASE + "/protocol/{protocol}", auth=Auth.USER)
    @endpoint("queryLocationByProtocol", "GET", _BASE + "/location/{protocol}", auth=Auth.USER)
    @endpoint("queryUserByProtocol", "GET", _BASE + "/user/{protocol}", auth=Auth.USER)
    async def of_protocol(self, protocol: Path[str]) -> dict[str, Any]:
        """Knows none."""
        raise NotFound(f"No bridge here speaks {protocol[:100]}")

    @endpoint("queryLocationByAlias", "GET", _BASE + "/location", auth=Auth.USER)
    @endpoint("queryUserByID", "GET", _BASE + "/user", auth=Auth.USER)
    async def reverse(self) -> list[dict[str, Any]]:
        """Knows nothing of it."""
        raise NotFound("No bridge here knows it")
