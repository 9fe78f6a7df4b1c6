"""What relates to an event, page by page.

spec: client-server-api/#relationships-api (REL-12 to REL-14)
"""

from __future__ import annotations

from typing import NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.page_size import ANSWER_BYTES, at, beyond, fitting
from homeserver.graph.read.visibility import Viewer, VisibilityFilter
from homeserver.log.entries import Position
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import EventId, RoomId
from homeserver.matrix.tokens import format_token
from homeserver.relations import store
from homeserver.rooms.access import RoomAccess
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MAX_LIMIT = 100
NEWEST, OLDEST = 2**62, -(2**62)


class RelationsRequest(NamedTuple):
    """Which relations, from where."""

    event_id: EventId
    rel_type: str | None
    event_type: str | None
    start: Position | None
    stop: Position | None
    backwards: bool
    limit: int
    recurse: bool


class Page(NamedTuple):
    """Events as JSON, and the token to go on from."""

    chunk: list[bytes]
    next_batch: str | None


class RelationsService:
    """Answers `/relations` page by page. Keeps nothing in memory."""

    def __init__(  # what it is made of; built in one place
        self,
        db: Database,
        access: RoomAccess,
        events: EventCache,
        visibility: VisibilityFilter,
        bundles: Bundles,
    ) -> None:
        self._db = db
        self._access = access
        self._events = events
        self._visibility = visibility
        self._bundles = bundles

    async def page(self, requester: Requester, room_id: RoomId, request: RelationsRequest) -> Page:
        """Raises `Forbidden`, `NotFound` for an event the user may not see."""
        room = (await self._access.of(requester, room_id)).room
        viewer = Viewer(requester.user_id, requester.user_nid)
        parent = await self._events.by_id(request.event_id)
        if parent is None or parent.room_nid != room.name.nid:
            raise NotFound("There is no such event")
        if await self._visibility.one(viewer, room, parent) is None:
            raise NotFound("There is no such event")
        limit = max(1, min(request.limit, MAX_LIMIT))
        low, high = (request.stop, request.start) if request.backwards else (request.start, request.stop)
        wanted = store.Wanted(
            request.event_id,
            room.name.nid,
            request.rel_type,
            request.event_type,
            store.MAX_DEPTH if request.recurse else 1,
            OLDEST if low is None else low,
            NEWEST if high is None else high,
            request.backwards,
            limit + 1,
        )
        async with self._db.read() as tx:
            nids = await store.find_children(tx, wanted)
        shown = nids[:limit]
        loaded = await self._events.load(shown)
        page = [loaded[nid] for nid in shown if nid in loaded]
        seen = (await self._visibility.many(viewer, {room: page}))[room]
        chunk = await self._bundles.shown(viewer, requester.device_id, room, seen)
        if (fits := fitting(map(len, chunk), ANSWER_BYTES)) < len(chunk):
            return Page(chunk[:fits], format_token(at(seen[fits].persisted.nid, backwards=request.backwards)))
        if len(nids) <= limit:
            return Page(chunk, None)
        return Page(chunk, format_token(beyond(shown[-1], backwards=request.backwards)))
