"""Endpoints of relations.

spec: client-server-api/#relationships-api
"""

from __future__ import annotations

from typing import Literal

from homeserver.matrix import json
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import EventId, RoomId
from homeserver.matrix.tokens import parse_token
from homeserver.relations.service import Ask, RelationsService
from homeserver.relations.store import MAX_DEPTH
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Path, Query, endpoint
from homeserver.web.response import RawJson

RELATIONS = "/_matrix/client/v1/rooms/{roomId}/relations/{eventId}"
DEFAULT_LIMIT = 5


class RelationsApi:
    """What relates to an event."""

    def __init__(self, relations: RelationsService) -> None:
        self._relations = relations

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
        ask = _ask(event_id, from_, to, limit, dir, recurse=recurse)
        return await self._page(requester, room_id, ask)

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
        ask = _ask(event_id, from_, to, limit, dir, recurse=recurse)
        return await self._page(requester, room_id, ask._replace(rel_type=rel_type))

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
        ask = _ask(event_id, from_, to, limit, dir, recurse=recurse)
        return await self._page(requester, room_id, ask._replace(rel_type=rel_type, event_type=event_type))

    async def _page(self, requester: Requester, room_id: RoomId, ask: Ask) -> RawJson:
        page = await self._relations.page(requester, room_id, ask)
        parts = [b'"chunk":[%b]' % b",".join(page.chunk)]
        if page.next_batch is not None:
            parts.append(b'"next_batch":' + json.dumps(page.next_batch))
        if ask.recurse:
            parts.append(b'"recursion_depth":%d' % MAX_DEPTH)
        return RawJson(b"{%b}" % b",".join(parts))


def _ask(  # one value each, as they come
    event_id: EventId, start: str | None, stop: str | None, limit: int, direction: str, *, recurse: bool
) -> Ask:
    if limit < 1:
        raise InvalidParam("limit: must be positive")
    return Ask(
        event_id,
        None,
        None,
        parse_token(start, "from") if start else None,
        parse_token(stop, "to") if stop else None,
        direction == "b",
        limit,
        recurse,
    )
