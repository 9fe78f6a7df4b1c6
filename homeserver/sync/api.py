"""Endpoints: sync and filters.

spec: client-server-api/#syncing, #filtering
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import msgspec

from homeserver.events.filtering import MAX_FILTER_BYTES
from homeserver.matrix import json
from homeserver.matrix.errors import Forbidden, InvalidParam
from homeserver.matrix.ids import RoomId, UserId
from homeserver.matrix.tokens import parse_sync_token, parse_token
from homeserver.sync.all_rooms import AllRoomsService
from homeserver.sync.assemble import PIECE
from homeserver.sync.filters import FilterService
from homeserver.sync.peeking import PeekingService
from homeserver.sync.service import Presence, SyncParameters, SyncService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Body, Name, Path, Query, endpoint
from homeserver.web.response import RawJson, StreamedJson

STATE_AFTER, UNSTABLE_STATE_AFTER = "state_after", "org.matrix.msc4222.state_after"
FILTERS = "/_matrix/client/{v}/user/{userId}/filter"


class FilterId(msgspec.Struct):
    """Which filter."""

    filter_id: str


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

    @endpoint("peekEvents", "GET", "/_matrix/client/{v}/events", auth=Auth.GUEST_ALLOWED)
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


class SyncApi:
    """Syncing."""

    def __init__(self, sync: SyncService, filters: FilterService) -> None:
        self._sync = sync
        self._filters = filters

    @endpoint("sync", "GET", "/_matrix/client/{v}/sync", auth=Auth.GUEST_ALLOWED)
    async def sync(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        since: Query[str | None] = None,
        timeout: Query[int] = 0,  # the specification's name
        filter: Query[str | None] = None,  # noqa: A002  # the specification's name
        full_state: Query[bool] = False,
        use_state_after: Query[bool] = False,
        unstable_state_after: Annotated[Query[bool], Name("org.matrix.msc4222.use_state_after")] = False,
        set_presence: Query[Presence] = "online",
    ) -> RawJson | StreamedJson:
        token = parse_sync_token(since, "since") if since else None
        parameters = SyncParameters(
            token.position if token else None,
            token.to_device if token else 0,
            await self._filters.for_sync(requester.user_nid, filter),
            max(0, timeout),
            full_state,
            STATE_AFTER if use_state_after else UNSTABLE_STATE_AFTER if unstable_state_after else None,
            set_presence,
        )
        pieces = await self._sync.sync(requester, parameters)
        if parameters.since is None or parameters.full_state:
            return StreamedJson(_in_pieces(pieces))
        return RawJson(b"".join(pieces))

    @endpoint(
        "defineFilter",
        "POST",
        FILTERS,
        auth=Auth.GUEST_ALLOWED,
        when_suspended=True,
        max_body=2 * MAX_FILTER_BYTES,  # with white space
    )
    async def define(
        self, requester: Requester, user_id: Path[UserId], body: Body[dict[str, Any]]
    ) -> FilterId:
        _own(requester, user_id)
        return FilterId(await self._filters.define(requester.user_nid, body))

    @endpoint("getFilter", "GET", FILTERS + "/{filterId}", auth=Auth.GUEST_ALLOWED)
    async def get(self, requester: Requester, user_id: Path[UserId], filter_id: Path[str]) -> RawJson:
        _own(requester, user_id)
        return RawJson(await self._filters.definition(requester.user_nid, filter_id))


def _own(requester: Requester, user_id: UserId) -> None:
    if user_id != requester.user_id:
        raise Forbidden("Filters are their owner's alone")


async def _in_pieces(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Rooms are put together while earlier ones are on their way."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        waiting.append(part)
        size += len(part)
        if size >= PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
