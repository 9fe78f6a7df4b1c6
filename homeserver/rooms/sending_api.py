"""Endpoints of sending: messages, state, redactions.

spec: client-server-api/#sending-events-to-a-room
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.matrix.ids import EventId, RoomId
from homeserver.rooms.sending import SendingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint

ROOM = "/_matrix/client/{v}/rooms/{roomId}"


class EventIdResponse(msgspec.Struct):
    """Which event."""

    event_id: EventId


class SendingApi:
    """Writing into rooms."""

    def __init__(self, sending: SendingService) -> None:
        self._sending = sending

    @endpoint(
        "sendMessage", "PUT", ROOM + "/send/{eventType}/{txnId}", auth=Auth.GUEST_ALLOWED, limit="message"
    )
    async def send(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        txn_id: Path[str],
        body: Body[dict[str, Any]],
        ts: Query[int | None] = None,
    ) -> EventIdResponse:
        return EventIdResponse(await self._sending.send(requester, room_id, event_type, txn_id, body, ts=ts))

    @endpoint(
        "sendMessageWithoutTransaction",
        "POST",
        ROOM + "/send/{eventType}",
        auth=Auth.GUEST_ALLOWED,
        limit="message",
    )
    async def send_each_time(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        body: Body[dict[str, Any]],
        ts: Query[int | None] = None,
    ) -> EventIdResponse:
        """As clients did before transaction ids: whoever repeats it sends twice."""
        return EventIdResponse(await self._sending.send(requester, room_id, event_type, None, body, ts=ts))

    @endpoint(
        "setRoomStateWithKey",
        "PUT",
        ROOM + "/state/{eventType}/{stateKey}",
        auth=Auth.GUEST_ALLOWED,
        limit="message",
    )
    async def put_state(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        state_key: Path[str],
        body: Body[dict[str, Any]],
        ts: Query[int | None] = None,
    ) -> EventIdResponse:
        return EventIdResponse(
            await self._sending.put_state(requester, room_id, (event_type, state_key), body, ts=ts)
        )

    @endpoint(
        "setRoomState",
        "PUT",
        [ROOM + "/state/{eventType}", ROOM + "/state/{eventType}/"],
        auth=Auth.GUEST_ALLOWED,
        limit="message",
    )
    async def put_state_without_key(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        body: Body[dict[str, Any]],
        ts: Query[int | None] = None,
    ) -> EventIdResponse:
        return EventIdResponse(
            await self._sending.put_state(requester, room_id, (event_type, ""), body, ts=ts)
        )

    @endpoint(
        "redactEvent",
        "PUT",
        ROOM + "/redact/{eventId}/{txnId}",
        auth=Auth.USER,
        limit="message",
        when_suspended=True,
    )
    async def redact(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_id: Path[EventId],
        txn_id: Path[str],
        body: Body[dict[str, Any]],
    ) -> EventIdResponse:
        return EventIdResponse(await self._sending.redact(requester, room_id, event_id, txn_id, body))

    @endpoint(
        "redactEventWithoutTransaction",
        "POST",
        ROOM + "/redact/{eventId}",
        auth=Auth.USER,
        limit="message",
        when_suspended=True,
    )
    async def redact_each_time(
        self, requester: Requester, room_id: Path[RoomId], event_id: Path[EventId], body: Body[dict[str, Any]]
    ) -> EventIdResponse:
        """Likewise."""
        return EventIdResponse(await self._sending.redact(requester, room_id, event_id, None, body))
