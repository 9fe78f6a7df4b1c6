"""Endpoints of relations.

spec: client-server-api/#relationships-api
"""

from __future__ import annotations

from typing import Literal

from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import EventId, RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.relations.service import Page, RelationsRequest, RelationsService
from homeserver.relations.store import MAX_DEPTH
from homeserver.relations.threads import ThreadsService
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Path, Query, endpoint
from homeserver.web.response import RawJson

RELATIONS = "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}"
THREADS = "/_matrix/client/v1/rooms/{roomId}/threads"
DEFAULT_LIMIT = 5
DEFAULT_THREADS = 20


class RelationsApi:
    """What relates to an event."""

    def __init__(self, relations: RelationsService, threads: ThreadsService) -> None:
        self._relations = relations
        self._threads = threads

    @endpoint("getRelatingEvents", "GET", RELATIONS, auth=Auth.USER)
    async def all(  # noqa: PLR0917  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_id: Path[EventId],
        from_: Query[str | None] = None,
        to: Query[str | None] = None,
        limit: Query[int] = DEFAULT_LIMIT,
        dir: Query[Literal["b", "f"]] = "b",  # noqa: A002  # the specification's name
        recurse: Query[bool] = False,
    ) -> RawJson:
        request = _ask(event_id, from_, to, limit, dir, recurse=recurse)
        return await self._page(requester, room_id, request)

    @endpoint("getRelatingEventsWithRelType", "GET", RELATIONS + "/{relType}", auth=Auth.USER)
    async def of_kind(  # noqa: PLR0917, PLR0913  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_id: Path[EventId],
        rel_type: Path[str],
        from_: Query[str | None] = None,
        to: Query[str | None] = None,
        limit: Query[int] = DEFAULT_LIMIT,
        dir: Query[Literal["b", "f"]] = "b",  # noqa: A002  # the specification's name
        recurse: Query[bool] = False,
    ) -> RawJson:
        request = _ask(event_id, from_, to, limit, dir, recurse=recurse)
        return await self._page(requester, room_id, request._replace(rel_type=rel_type))

    @endpoint(
        "getRelatingEventsWithRelTypeAndEventType",
        "GET",
        RELATIONS + "/{relType}/{eventType}",
        auth=Auth.USER,
    )
    async def of_kind_and_type(  # noqa: PLR0917, PLR0913  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_id: Path[EventId],
        rel_type: Path[str],
        event_type: Path[str],
        from_: Query[str | None] = None,
        to: Query[str | None] = None,
        limit: Query[int] = DEFAULT_LIMIT,
        dir: Query[Literal["b", "f"]] = "b",  # noqa: A002  # the specification's name
        recurse: Query[bool] = False,
    ) -> RawJson:
        request = _ask(event_id, from_, to, limit, dir, recurse=recurse)
        return await self._page(
            requester, room_id, request._replace(rel_type=rel_type, event_type=event_type)
        )

    @endpoint("getThreadRoots", "GET", THREADS, auth=Auth.USER)
    async def threads(  # a handler's signature is its request
        self,
        requester: Requester,
        room_id: Path[RoomId],
        include: Query[Literal["all", "participated"]] = "all",
        limit: Query[int] = DEFAULT_THREADS,
        from_: Query[str | None] = None,
    ) -> RawJson:
        page = await self._threads.page(
            requester,
            room_id,
            start=parse_token(from_, "from") if from_ else None,
            limit=_positive(limit),
            participated=include == "participated",
        )
        return _answer(page)

    async def _page(self, requester: Requester, room_id: RoomId, request: RelationsRequest) -> RawJson:
        page = await self._relations.page(requester, room_id, request)
        return _answer(page, b',"recursion_depth":%d' % MAX_DEPTH if request.recurse else b"")


def _answer(page: Page, more: bytes = b"") -> RawJson:
    if page.next_batch is not None:
        more += b',"next_batch":' + json.dumps(page.next_batch)
    return RawJson(b'{"chunk":[%b]%b}' % (b",".join(page.chunk), more))


def _positive(limit: int) -> int:
    if limit < 1:
        raise InvalidParam("limit: must be positive")
    return limit


def _ask(  # one value each, as they come
    event_id: EventId, start: str | None, stop: str | None, limit: int, direction: str, *, recurse: bool
) -> RelationsRequest:
    return RelationsRequest(
        event_id,
        None,
        None,
        parse_token(start, "from") if start else None,
        parse_token(stop, "to") if stop else None,
        direction == "b",
        _positive(limit),
        recurse,
    )
