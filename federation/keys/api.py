"""Endpoints of keys: our own and, as a notary, those of others; asked for by anybody.

spec: server-server-api/#retrieving-server-keys
"""

from __future__ import annotations

from typing import Any

import msgspec

from federation.keys.notary import ANY_KEY, NotaryService
from federation.keys.own import OwnKeys
from federation.keys.types import KeyQueryAnswer, QueriedKey
from homeserver.matrix.ids import ServerName
from homeserver.web.endpoint import Auth, Body, Path, Query, endpoint
from homeserver.web.request import RequestInfo
from homeserver.web.response import RawJson


class KeyQueryBody(msgspec.Struct, frozen=True):
    """spec: server-server-api/#post_matrixkeyv2query"""

    server_keys: dict[str, dict[str, QueriedKey]]


class KeyApi:
    """What is told of keys."""

    def __init__(self, own: OwnKeys, notary: NotaryService) -> None:
        self._own = own
        self._notary = notary

    @endpoint("getServerKey", "GET", "/_matrix/key/v2/server", auth=Auth.NONE, limit="federation")
    async def server_key(self) -> RawJson:
        """Tells the keys of this server (CHECKLIST FED-05)."""
        return RawJson(self._own.published())

    # Anybody may ask, and what is not known is asked for elsewhere: that is limited by address, too (`NotaryService`).
    @endpoint(
        "perspectivesKeyQuery",
        "GET",
        "/_matrix/key/v2/query/{serverName}",
        auth=Auth.NONE,
        limit="federation",
    )
    async def query_one(
        self,
        info: RequestInfo,
        server_name: Path[ServerName],
        minimum_valid_until_ts: Query[int | None] = None,
    ) -> KeyQueryAnswer:
        """Tells the keys of another server (CHECKLIST FED-06)."""
        least: dict[str, QueriedKey] = {}
        if minimum_valid_until_ts is not None:
            least = {ANY_KEY: QueriedKey(minimum_valid_until_ts)}
        return await self._answer({server_name: least}, info)

    @endpoint("bulkPerspectivesKeyQuery", "POST", "/_matrix/key/v2/query", auth=Auth.NONE, limit="federation")
    async def query(self, body: Body[KeyQueryBody], info: RequestInfo) -> KeyQueryAnswer:
        """Tells the keys of several servers (CHECKLIST FED-06)."""
        return await self._answer(body.server_keys, info)

    async def _answer(self, wanted: dict[str, Any], info: RequestInfo) -> KeyQueryAnswer:
        return KeyQueryAnswer(await self._notary.query(wanted, info.ip))
