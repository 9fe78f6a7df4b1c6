"""Endpoints of devices and keys, for other servers.

spec: op:getUserDevices, op:queryUserEncryptionKeys, op:claimUserEncryptionKeys (FED-32)
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from federation.devices.own import OwnLists
from homeserver.e2ee.keys import KeyService
from homeserver.e2ee.query import KeyQueries
from homeserver.matrix.ids import UserId
from homeserver.web.auth import Auth
from homeserver.web.endpoint import Body, Path, endpoint
from homeserver.web.response import RawJson

USER: Final = "/_matrix/federation/v1/user"
MAX_BODY: Final = 2**20
"""Bytes of a question."""


class QueryBody(msgspec.Struct):
    """user_id -> devices; none named: all."""

    device_keys: dict[str, list[str]]


class ClaimBody(msgspec.Struct):
    """user_id -> device_id -> algorithm."""

    one_time_keys: dict[str, dict[str, str]]


class Claims(msgspec.Struct):
    """Keys handed out."""

    one_time_keys: dict[str, dict[str, dict[str, Any]]]


class DevicesApi:
    """Users of this server alone; who asks about others is told nothing of them."""

    def __init__(self, lists: OwnLists, queries: KeyQueries, keys: KeyService, *, named: bool) -> None:
        """`named`: whether others are told what people call their devices."""
        self._named = named
        self._lists = lists
        self._queries = queries
        self._keys = keys

    @endpoint("getUserDevices", "GET", f"{USER}/devices/{{userId}}", auth=Auth.SERVER)
    async def devices(self, user_id: Path[UserId]) -> dict[str, Any]:
        return await self._lists.list_of(user_id)

    @endpoint("queryUserEncryptionKeys", "POST", f"{USER}/keys/query", auth=Auth.SERVER, max_body=MAX_BODY)
    async def query(self, body: Body[QueryBody]) -> RawJson:
        return RawJson(await self._queries.query_for_server(body.device_keys, named=self._named))

    @endpoint("claimUserEncryptionKeys", "POST", f"{USER}/keys/claim", auth=Auth.SERVER, max_body=MAX_BODY)
    async def claim(self, body: Body[ClaimBody]) -> Claims:
        return Claims(await self._keys.claim(body.one_time_keys))
