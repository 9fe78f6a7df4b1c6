"""Endpoints that look into rooms without `/sync`.

spec: op:roomInitialSync, op:peekEvents, op:getEvents
"""

from __future__ import annotations

from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.sync.all_rooms import AllRoomsService
from homeserver.sync.peeking import PeekingService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Path, Query, endpoint
from homeserver.web.response import RawJson


class PeekingApi:
    """One room at a time; of events also all of them."""

    def __init__(self, peeking: PeekingService, all_rooms: AllRoomsService) -> None:
        self._peeking = peeking
        self._all_rooms = all_rooms

    @endpoint(
        "roomInitialSync", "GET", "/_matrix/client/{v}/rooms/{roomId}/initialSync", auth=Auth.GUEST_ALLOWED
    )
    async def room(self, requester: Requester, room_id: Path[RoomId], limit: Query[int] = 10) -> RawJson:
        if limit < 0:
            raise InvalidParam("limit: must not be negative")
        return RawJson(await self._peeking.room(requester, room_id, limit))

    @endpoint("peekEvents", "GET", "/_matrix/client/{v}/events", auth=Auth.GUEST_ALLOWED, named_only=True)
    async def events(
        self,
        requester: Requester,
        room_id: Query[RoomId | None] = None,
        from_: Query[str | None] = None,
        timeout: Query[int] = 5_000,  # the specification's name
    ) -> RawJson:
        since = parse_token(from_, "from") if from_ is not None else None
        if room_id is None:
            news = await self._all_rooms.events(requester, since, timeout)
        else:
            news = await self._peeking.events(requester, room_id, since, timeout)
        return RawJson(
            b'{"start":%b,"end":%b,"chunk":[%b]}'
            % (json.dumps(news.start), json.dumps(news.end), b",".join(news.chunk))
        )
