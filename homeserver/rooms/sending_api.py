"""Endpoints of sending: messages, state, redactions.

spec: client-server-api/#sending-events-to-a-room
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from homeserver.events.sticky import LONGEST_MS
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import EventId, RoomId
from homeserver.rooms.ports import Delays, LaterEvent, RelatedRedactions
from homeserver.rooms.sending import SendingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Name, Path, Query, endpoint

ROOM = "/_matrix/client/{v}/rooms/{roomId}"


class EventIdResponse(msgspec.Struct):
    """Which event."""

    event_id: EventId


class DelayIdResponse(msgspec.Struct):
    """Which event that is sent later. spec: MSC4140"""

    delay_id: str


Sent = EventIdResponse | DelayIdResponse
Delay = Annotated[Query[int | None], Name("org.matrix.msc4140.delay")]
"""ms. spec: MSC4140"""
StickyFor = Annotated[Query[int | None], Name("org.matrix.msc4354.sticky_duration_ms")]
"""ms. spec: MSC4354"""


WITH_RELATIONS = ("with_rel_types", "org.matrix.msc3912.with_relations")
"""spec: MSC3912"""


class SendingApi:
    """Writing into rooms."""

    def __init__(self, sending: SendingService) -> None:
        self._sending = sending
        self._delays: Delays | None = None
        self._related: RelatedRedactions | None = None

    def redact_related_with(self, related: RelatedRedactions) -> None:
        """Plug in who redacts what relates to an event."""
        self._related = related

    def delay_with(self, delays: Delays) -> None:
        """Plug in who keeps what is to be sent later."""
        self._delays = delays

    async def _later(self, requester: Requester, later: LaterEvent) -> DelayIdResponse:
        assert self._delays is not None, "plugged in by wiring"
        return DelayIdResponse(await self._delays.schedule(requester, later))

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
        delay: Delay = None,
        sticky: StickyFor = None,
    ) -> Sent:
        _check_sticky(sticky)
        if delay is not None:
            return await self._later(
                requester, LaterEvent(room_id, event_type, None, body, delay, txn_id, ts, sticky)
            )
        event_id = await self._sending.send(
            requester, room_id, event_type, txn_id, body, ts=ts, sticky_ms=sticky
        )
        return EventIdResponse(event_id)

    @endpoint(
        "sendMessageWithoutTransaction",
        "POST",
        ROOM + "/send/{eventType}",
        auth=Auth.GUEST_ALLOWED,
        limit="message",
    )
    async def send_each_time(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        body: Body[dict[str, Any]],
        ts: Query[int | None] = None,
        delay: Delay = None,
        sticky: StickyFor = None,
    ) -> Sent:
        """As clients did before transaction ids: whoever repeats it sends twice."""
        _check_sticky(sticky)
        if delay is not None:
            return await self._later(
                requester, LaterEvent(room_id, event_type, None, body, delay, None, ts, sticky)
            )
        event_id = await self._sending.send(
            requester, room_id, event_type, None, body, ts=ts, sticky_ms=sticky
        )
        return EventIdResponse(event_id)

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
        delay: Delay = None,
    ) -> Sent:
        if delay is not None:
            return await self._later(
                requester, LaterEvent(room_id, event_type, state_key, body, delay, None, ts)
            )
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
    async def put_state_without_key(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        body: Body[dict[str, Any]],
        ts: Query[int | None] = None,
        delay: Delay = None,
    ) -> Sent:
        if delay is not None:
            return await self._later(requester, LaterEvent(room_id, event_type, "", body, delay, None, ts))
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
        return await self._redact(requester, room_id, event_id, txn_id, body)

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
        return await self._redact(requester, room_id, event_id, None, body)

    async def _redact(
        self,
        requester: Requester,
        room_id: RoomId,
        event_id: EventId,
        txn_id: str | None,
        body: dict[str, Any],
    ) -> EventIdResponse:
        related = self._related
        assert related is not None, "plugged in by wiring"
        wished = [body.pop(name) for name in WITH_RELATIONS if name in body]
        rel_types = [each for wish in wished for each in related.check(wish)]
        redaction = await self._sending.redact(requester, room_id, event_id, txn_id, body)
        if rel_types:
            content = {name: value for name, value in body.items() if name != "redacts"}
            await related.order(requester, room_id, event_id, rel_types, content)
        return EventIdResponse(redaction)


def _check_sticky(duration_ms: int | None) -> None:
    """Raises `InvalidParam`. spec: MSC4354: 0 to an hour"""
    if duration_ms is not None and not 0 <= duration_ms <= LONGEST_MS:
        raise InvalidParam(f"org.matrix.msc4354.sticky_duration_ms: 0 to {LONGEST_MS} are allowed")
