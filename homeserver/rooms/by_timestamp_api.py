"""The endpoint that finds an event by time.

spec: client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from homeserver.matrix.ids import EventId, RoomId
from homeserver.rooms.by_timestamp import EventsByTimestamp
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Path, Query, endpoint

_PATHS: Final = (
    "/_matrix/client/v1/rooms/{roomId}/timestamp_to_event",
    "/_matrix/client/unstable/org.matrix.msc3030/rooms/{roomId}/timestamp_to_event",
)


class Found(msgspec.Struct):
    """spec: op:getEventByTimestamp."""

    event_id: EventId
    origin_server_ts: int


class ByTimestampApi:
    """Jumping to a date."""

    def __init__(self, events: EventsByTimestamp) -> None:
        self._events = events

    @endpoint("getEventByTimestamp", "GET", _PATHS, auth=Auth.GUEST_ALLOWED, limit="search")
    async def closest(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        ts: Query[int],
        dir: Query[Literal["f", "b"]],  # noqa: A002  # the specification's name
    ) -> Found:
        """Tells the event closest to a moment (ROOM-24)."""
        event = (await self._events.closest(requester, room_id, ts, backwards=dir == "b")).event
        return Found(event.event_id, event.origin_server_ts)
