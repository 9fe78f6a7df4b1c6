"""The threads of a room, newest first.

spec: client-server-api/#querying-threads-in-a-room (REL-11)
"""

from __future__ import annotations

from typing import NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.page_size import ANSWER_BYTES, fitting
from homeserver.graph.read.visibility import Viewer, VisibilityFilter, Visible, stripped
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.matrix.ids import RoomId
from homeserver.matrix.tokens import format_token
from homeserver.relations import store
from homeserver.relations.service import MAX_LIMIT, NEWEST, Page
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.older import MAX_ROUNDS, OlderHistory
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

MAX_PAGES = 10
"""Queries for one answer: of threads the reader may not see there may be many."""


class _Asked(NamedTuple):
    """Which threads: those whose newest reply is not beyond `start`."""

    start: Position
    limit: int
    participated: bool


class ThreadsService:
    """Answers `/threads` page by page. Keeps nothing in memory."""

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

    async def page(
        self,
        requester: Requester,
        room_id: RoomId,
        *,
        start: Position | None,
        limit: int,
        participated: bool,
    ) -> Page:
        """Roots of threads with their bundles, by their newest reply; of what is here, and of what other servers have where that is
        not enough (ROOM-22): a page does not end while they tell more. Raises `Forbidden`.

        `participated`: only those that the requester has begun or replied in.
        """
        room = (await self._access.of(requester, room_id)).room
        asked = _Asked(NEWEST if start is None else start, min(limit, MAX_LIMIT), participated)
        page = await self._here(requester, room, asked)
        for _ in range(MAX_ROUNDS):
            if page.next_batch is not None or not await self._older.fetch(requester, room):
                return page
            page = await self._here(requester, room, asked)
        if page.next_batch is None and await self._older.is_missing(requester, room):
            return page._replace(next_batch=format_token(page.lowest))
        return page

    async def _here(self, requester: Requester, room: Room, asked: _Asked) -> Page:
        start, limit, participated = asked
        viewer = Viewer(requester.user_id, requester.user_nid)
        ignored = await self._bundles.ignored(viewer)
        upto: Position | None = start
        found: list[Visible] = []
        newest: dict[int, Position] = {}
        for _ in range(MAX_PAGES):
            if upto is None or len(found) >= limit:
                break
            wanted = store.WantedThreads(
                room.name.nid,
                upto,
                requester.user_nid if participated else 0,
                list(ignored),
                limit - len(found),
            )
            async with self._db.read() as tx:
                rows = await store.find_threads(tx, wanted)
            newest.update(rows)
            found += await self._visible(viewer, room, [root for root, _ in rows])
            upto = rows[-1][1] - 1 if len(rows) == wanted.limit else None
        # spec: op:getThreadRoots: roots of ignored users come redacted
        shown = [
            item._replace(persisted=stripped(item.persisted))
            if item.persisted.sender_nid in ignored
            else item
            for item in found
        ]
        chunk = await self._bundles.shown(viewer, requester.device_id, room, shown)
        if (fits := fitting(map(len, chunk), ANSWER_BYTES)) < len(chunk):
            return Page(chunk[:fits], format_token(newest[found[fits].persisted.nid]))
        if upto is None:
            return Page(chunk, None, min(newest.values(), default=start + 1) - 1)
        return Page(chunk, format_token(upto))

    async def _visible(self, viewer: Viewer, room: Room, nids: list[int]) -> list[Visible]:
        loaded = await self._events.load(nids)
        page = [loaded[nid] for nid in nids if nid in loaded]
        return (await self._visibility.many(viewer, {room: page}))[room]
