"""What relates to an event, page by page.

spec: client-server-api/#relationships-api (REL-12 to REL-14)
"""

from __future__ import annotations

from typing import NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.page_size import ANSWER_BYTES, at, beyond, fitting
from homeserver.graph.read.visibility import Viewer, VisibilityFilter
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import EventId, RoomId
from homeserver.matrix.tokens import format_token
from homeserver.relations import store
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.older import MAX_ROUNDS, OlderHistory
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
    """Events as JSON, and the token to go on from (None: that is all there is here)."""

    chunk: list[bytes]
    next_batch: str | None
    lowest: Position = NEWEST
    """Of a page backwards that ends: nothing on it is older; what is found later is."""


class RelationsService:
    """Answers `/relations` page by page. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        access: RoomAccess,
        events: EventCache,
        visibility: VisibilityFilter,
        bundles: Bundles,
        older: OlderHistory,
    ) -> None:
        self._db = db
        self._access = access
        self._events = events
        self._visibility = visibility
        self._bundles = bundles
        self._older = older

    async def page(self, requester: Requester, room_id: RoomId, request: RelationsRequest) -> Page:
        """Of what is here, and of what other servers have where that is not enough (ROOM-22): backwards, a page does not end while
        they tell more. Raises `Forbidden`, `NotFound` for an event the user may not see.
        """
        room = (await self._access.of(requester, room_id)).room
        viewer = Viewer(requester.user_id, requester.user_nid)
        parent = await self._parent(requester, room, request.event_id)
        if await self._visibility.one(viewer, room, parent) is None:
            raise NotFound("There is no such event")
        if not request.backwards:  # the oldest come first: they have to be here
            rounds = MAX_ROUNDS if request.start is None else 0
            while rounds and await self._older.fetch(requester, room, parent.nid):
                rounds -= 1
            return await self._here(requester, room, request)
        page = await self._here(requester, room, request)
        for _ in range(MAX_ROUNDS):
            if page.next_batch is not None or not await self._older.fetch(requester, room, parent.nid):
                return page
            page = await self._here(requester, room, request)
        if page.next_batch is None and await self._older.is_missing(requester, room, parent.nid):
            return page._replace(next_batch=format_token(page.lowest))
        return page

    async def _parent(self, requester: Requester, room: Room, event_id: EventId) -> PersistedEvent:
        for _ in range(MAX_ROUNDS + 1):
            found = await self._events.by_id(event_id)
            if found is not None and found.room_nid == room.name.nid:
                return found
            if found is not None or not await self._older.fetch(requester, room):
                break
        raise NotFound("There is no such event")

    async def _here(self, requester: Requester, room: Room, request: RelationsRequest) -> Page:
        viewer = Viewer(requester.user_id, requester.user_nid)
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
            return Page(chunk, None, nids[-1] - 1 if nids else wanted.upto)
        return Page(chunk, format_token(beyond(shown[-1], backwards=request.backwards)))
