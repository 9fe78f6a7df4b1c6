"""Endpoints for application services: ping, and the room directory of a network.

spec: op:pingAppservice, op:updateAppserviceRoomDirectoryVisibility (CHECKLIST AS-16, AS-17)
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from appservices.client import AppserviceClient, Call, TimedOut
from appservices.registry import Registry
from homeserver.directory.service import RoomDirectory
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, InvalidParam, MatrixError
from homeserver.matrix.ids import RoomId
from homeserver.runtime.clock import Clock
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, EmptyObject, Path, endpoint
from homeserver.web.outbound import OutboundError

_PING: Final = (
    "/_matrix/client/v1/appservice/{appserviceId}/ping",
    "/_matrix/client/unstable/fi.mau.msc2659/appservice/{appserviceId}/ping",
)
MAX_SHOWN: Final = 1_000
"""Characters of an answer that are told."""
MAX_NETWORK: Final = 255
TIMEOUT: Final = 10.0


class UrlNotSet(MatrixError):
    errcode = "M_URL_NOT_SET"


class BadStatus(MatrixError):
    """Carries `status` and `body`."""

    status = 502
    errcode = "M_BAD_STATUS"


class ConnectionFailed(MatrixError):
    status = 502
    errcode = "M_CONNECTION_FAILED"


class ConnectionTimeout(MatrixError):
    status = 504
    errcode = "M_CONNECTION_TIMEOUT"


class PingBody(msgspec.Struct):
    transaction_id: str | None = None


class Pinged(msgspec.Struct):
    duration_ms: int


class NetworkVisibility(msgspec.Struct):
    visibility: Literal["public", "private"]


class AppserviceApi:
    """What an application service asks of the server beyond what people do."""

    def __init__(
        self, registry: Registry, client: AppserviceClient, directory: RoomDirectory, clock: Clock
    ) -> None:
        self._registry = registry
        self._client = client
        self._directory = directory
        self._clock = clock

    @endpoint("pingAppservice", "POST", _PING, auth=Auth.APPSERVICE, limit=None)
    async def ping(self, requester: Requester, appservice_id: Path[str], body: Body[PingBody]) -> Pinged:
        """Asks the service whether it can be reached from here."""
        service = self._registry.services.get(appservice_id)
        if service is None or requester.appservice_id != service.id:
            raise Forbidden("The access token is not that of this application service")
        if service.url is None:
            raise UrlNotSet("The application service has no URL")
        said = {} if body.transaction_id is None else {"transaction_id": body.transaction_id}
        call = Call(method="POST", path="/ping", body=json.dumps(said), timeout=TIMEOUT)
        began = self._clock.monotonic()
        try:
            reply = await self._client.call(service, call)
        except TimedOut as error:
            raise ConnectionTimeout(str(error)) from None
        except OutboundError as error:
            raise ConnectionFailed(str(error)) from None
        if not reply.ok:
            shown = reply.body[:MAX_SHOWN].decode("utf-8", "replace")
            fields: dict[str, Any] = {"body": shown}
            refusal = BadStatus(f"The application service answered {reply.status}", **fields)
            refusal.fields["status"] = reply.status
            raise refusal
        return Pinged(round((self._clock.monotonic() - began) * 1000))

    @endpoint(
        "updateAppserviceRoomDirectoryVisibility",
        "PUT",
        "/_matrix/client/{v}/directory/list/appservice/{networkId}/{roomId}",
        auth=Auth.APPSERVICE,
    )
    async def publish(
        self,
        requester: Requester,
        network_id: Path[str],
        room_id: Path[RoomId],
        body: Body[NetworkVisibility],
    ) -> EmptyObject:
        """Puts a room into the list of one of the service's networks, or takes it out."""
        service = self._registry.services.get(requester.appservice_id or "")
        if service is None:
            raise Forbidden("Only application services may do this")
        if not 0 < len(network_id) <= MAX_NETWORK:
            raise InvalidParam(f"networkId: 1 to {MAX_NETWORK} characters")
        await self._directory.set_listed(
            room_id, service.instance(network_id), listed=body.visibility == "public"
        )
        return EmptyObject()
