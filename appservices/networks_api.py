"""Endpoints of third-party networks.

spec: client-server-api/#third-party-networks (CHECKLIST AS-18)
"""

from __future__ import annotations

from typing import Any, Final

from appservices.networks import Networks, What
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import RoomAlias, UserId
from homeserver.web.auth import Auth
from homeserver.web.endpoint import Path, Query, endpoint
from homeserver.web.request import RequestInfo

_BASE: Final = "/_matrix/client/{v}/thirdparty"
MAX_FIELDS: Final = 20
_NOT_FIELDS: Final = frozenset({"access_token", "user_id", "device_id", "org.matrix.msc3202.device_id"})


class NetworksApi:
    """What bridges offer."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks

    @endpoint("getProtocols", "GET", _BASE + "/protocols", auth=Auth.USER, limit="search")
    async def protocols(self) -> dict[str, Any]:
        """Lists the protocols that bridges here speak."""
        return await self._networks.protocols()

    @endpoint("getProtocolMetadata", "GET", _BASE + "/protocol/{protocol}", auth=Auth.USER, limit="search")
    async def protocol(self, protocol: Path[str]) -> dict[str, Any]:
        """Tells what there is to know of a protocol."""
        found = await self._networks.protocol(protocol)
        if found is None:
            raise NotFound(f"No bridge here speaks {protocol[:100]}")
        return found

    @endpoint(
        "queryLocationByProtocol", "GET", _BASE + "/location/{protocol}", auth=Auth.USER, limit="search"
    )
    async def locations(self, protocol: Path[str], info: RequestInfo) -> list[dict[str, Any]]:
        """Finds rooms on a network by its own names."""
        return await self._find("location", protocol, info)

    @endpoint("queryUserByProtocol", "GET", _BASE + "/user/{protocol}", auth=Auth.USER, limit="search")
    async def users(self, protocol: Path[str], info: RequestInfo) -> list[dict[str, Any]]:
        """Finds people on a network by its own names."""
        return await self._find("user", protocol, info)

    @endpoint("queryLocationByAlias", "GET", _BASE + "/location", auth=Auth.USER, limit="search")
    async def behind_alias(self, alias: Query[RoomAlias]) -> list[dict[str, Any]]:
        """Tells what an alias is on third-party networks."""
        return _found(await self._networks.behind("location", alias))

    @endpoint("queryUserByID", "GET", _BASE + "/user", auth=Auth.USER, limit="search")
    async def behind_user(self, userid: Query[UserId]) -> list[dict[str, Any]]:
        """Tells who a user is on third-party networks."""
        return _found(await self._networks.behind("user", userid))

    async def _find(self, what: What, protocol: str, info: RequestInfo) -> list[dict[str, Any]]:
        fields = {
            name: values[0]
            for name, values in list(info.query.items())[:MAX_FIELDS]
            if name not in _NOT_FIELDS
        }
        return _found(await self._networks.find(what, protocol, fields))


def _found(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not results:
        raise NotFound("No bridge here knows it")
    return results
