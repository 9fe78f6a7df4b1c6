"""The endpoint of to-device messages.

spec: client-server-api/#put_matrixclientv3sendtodeviceeventtypetxnid
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.to_device.service import ToDeviceService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, endpoint

MAX_BODY = 4 * 2**20


class MessagesBody(msgspec.Struct):
    """user_id -> device_id or `*` -> content."""

    messages: dict[str, dict[str, dict[str, Any]]]


class ToDeviceApi:
    """Sending to devices."""

    def __init__(self, to_device: ToDeviceService) -> None:
        self._to_device = to_device

    @endpoint(
        "sendToDevice",
        "PUT",
        "/_matrix/client/{v}/sendToDevice/{eventType}/{txnId}",
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
        max_body=MAX_BODY,
    )
    async def send(
        self, requester: Requester, event_type: Path[str], txn_id: Path[str], body: Body[MessagesBody]
    ) -> None:
        await self._to_device.send(requester, event_type, txn_id, body.messages)
