"""Endpoints of receipts and read markers.

spec: client-server-api/#receipts, #read-and-unread-markers
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.matrix.ids import EventId, RoomId
from homeserver.receipts.service import FULLY_READ, ReceiptService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, endpoint

ROOM = "/_matrix/client/{v}/rooms/{roomId}"


class Markers(msgspec.Struct):
    """How far was read; each is optional."""

    fully_read: EventId | None = msgspec.field(default=None, name=FULLY_READ)
    read: EventId | None = msgspec.field(default=None, name="m.read")
    private: EventId | None = msgspec.field(default=None, name="m.read.private")


class ReceiptsApi:
    """Reading and saying so."""

    def __init__(self, receipts: ReceiptService) -> None:
        self._receipts = receipts

    @endpoint(
        "postReceipt",
        "POST",
        ROOM + "/receipt/{receiptType}/{eventId}",
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
    )
    async def post(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        receipt_type: Path[str],
        event_id: Path[EventId],
        body: Body[dict[str, Any]] = {},  # noqa: B006  # never changed
    ) -> None:
        thread_id = body.get("thread_id", msgspec.UNSET)
        await self._receipts.read(requester, room_id, receipt_type, event_id, thread_id)

    @endpoint("setReadMarker", "POST", ROOM + "/read_markers", auth=Auth.GUEST_ALLOWED, when_suspended=True)
    async def mark(self, requester: Requester, room_id: Path[RoomId], body: Body[Markers]) -> None:
        given = {FULLY_READ: body.fully_read, "m.read": body.read, "m.read.private": body.private}
        await self._receipts.mark(
            requester, room_id, {kind: event_id for kind, event_id in given.items() if event_id is not None}
        )
