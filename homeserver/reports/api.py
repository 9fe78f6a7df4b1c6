"""Endpoints for reporting events, rooms and users.

spec: client-server-api/#reporting-content
"""

from __future__ import annotations

import msgspec

from homeserver.matrix.ids import EventId, RoomId, UserId
from homeserver.reports.service import ReportService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, EmptyObject, Path, endpoint


class EventReport(msgspec.Struct):
    """Why; older clients also say how bad it is, which means nothing any more."""

    reason: str | None = None


class WithReason(msgspec.Struct):
    """Why; may be blank."""

    reason: str


class ReportsApi:
    """Telling the administrators."""

    def __init__(self, reports: ReportService) -> None:
        self._reports = reports

    @endpoint(
        "reportEvent",
        "POST",
        "/_matrix/client/{v}/rooms/{roomId}/report/{eventId}",
        auth=Auth.GUEST_ALLOWED,
        limit="report",
    )
    async def event(
        self, requester: Requester, room_id: Path[RoomId], event_id: Path[EventId], body: Body[EventReport]
    ) -> EmptyObject:
        """Reports an event of a room one is joined to."""
        await self._reports.report_event(requester, room_id, event_id, body.reason)
        return EmptyObject()

    @endpoint(
        "reportRoom",
        "POST",
        ("/_matrix/client/{v}/rooms/{roomId}/report",
         "/_matrix/client/unstable/org.matrix.msc4151/rooms/{roomId}/report"),
        auth=Auth.USER,
        limit="report",
    )  # fmt: skip
    async def room(self, requester: Requester, room_id: Path[RoomId], body: Body[WithReason]) -> EmptyObject:
        """Reports a room, whether or not one is in it."""
        await self._reports.report_room(requester, room_id, body.reason)
        return EmptyObject()

    @endpoint(
        "reportUser",
        "POST",
        ("/_matrix/client/{v}/users/{userId}/report",
         "/_matrix/client/unstable/org.matrix.msc4260/users/{userId}/report"),
        auth=Auth.USER,
        limit="report",
    )  # fmt: skip
    async def user(self, requester: Requester, user_id: Path[UserId], body: Body[WithReason]) -> EmptyObject:
        """Reports a user."""
        await self._reports.report_user(requester, user_id, body.reason)
        return EmptyObject()
