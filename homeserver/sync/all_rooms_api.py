"""Endpoints from before `/sync`: all rooms together. `/events` is in `peeking_api.py`.

spec: op:initialSync, op:getOneEvent
"""

from __future__ import annotations

from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import EventId
from homeserver.sync.all_rooms import AllRoomsService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Path, Query, endpoint
from homeserver.web.response import RawJson, StreamedJson


class AllRoomsApi:
    """The whole state of a user, and single events."""

    def __init__(self, service: AllRoomsService) -> None:
        self._service = service

    @endpoint(
        "initialSync", "GET", "/_matrix/client/{v}/initialSync", auth=Auth.GUEST_ALLOWED, limit="search"
    )
    async def initial(
        self, requester: Requester, limit: Query[int] = 10, archived: Query[bool] = False
    ) -> StreamedJson:
        """Tells everything there is (SYNC-24)."""
        if limit < 0:
            raise InvalidParam("limit: must not be negative")
        return StreamedJson(await self._service.initial(requester, limit, archived=archived))

    @endpoint("getOneEvent", "GET", "/_matrix/client/{v}/events/{eventId}", auth=Auth.GUEST_ALLOWED)
    async def event(self, requester: Requester, event_id: Path[EventId]) -> RawJson:
        """One event, wherever it is."""
        return RawJson(await self._service.event(requester, event_id))
