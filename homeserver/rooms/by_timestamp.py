"""The event of a room that was sent closest to a moment.

Events are looked for in the order of `origin_server_ts`: what people see, and what bridges may choose for old messages.
Looked at is a bounded number of events, and of those alone that the reader may see one is told. Where the newest or oldest
ones are hidden from them (they came later), those of the times when they were in the room are searched.

spec: client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event (CHECKLIST ROOM-24)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.pages import NEWEST, OLDEST, Pages
from homeserver.graph.read.visibility import Viewer, VisibilityFilter
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import EventId, RoomId
from homeserver.rooms import time_store as store
from homeserver.rooms.access import RoomAccess
from homeserver.rooms.ports import Backfiller, RemoteMoments
from homeserver.rooms.time_store import Moment, Stay, TimeSearch
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

PAGES: Final = (20, 200, 800)
"""Events looked at in the order of time: most readers see the first."""
MAX_STAYS: Final = 100
"""Times between a join and a leave that are searched; the newest."""
MAX_TIME: Final = 2**62
FirstVisible = Callable[[Sequence[PersistedEvent]], Awaitable[PersistedEvent | None]]
"""Of some events the first that may be told."""


MAX_ROUNDS: Final = 10
"""How often other servers are asked for what lies in a gap, for one answer."""
FOUND_AT_ONCE: Final = 100


class _Asked(NamedTuple):
    """What is searched."""

    search: TimeSearch
    ts: int
    first: FirstVisible


class EventsByTimestamp:
    """Answers `timestamp_to_event`. Keeps nothing in memory."""

    def __init__(
        self,
        db: Database,
        access: RoomAccess,
        events: EventCache,
        visibility: VisibilityFilter,
        pages: Pages,
    ) -> None:
        self._pages = pages
        self._elsewhere: RemoteMoments | None = None
        self._backfiller: Backfiller | None = None
        self._db = db
        self._access = access
        self._events = events
        self._visibility = visibility

    def ask_with(self, moments: RemoteMoments, backfiller: Backfiller) -> None:
        """Who asks other servers for what is not here."""
        self._elsewhere, self._backfiller = moments, backfiller

    async def closest(
        self, requester: Requester, room_id: RoomId, ts: int, *, backwards: bool
    ) -> PersistedEvent:
        """The first visible event at `ts` (ms) or after it; backwards: the last at it or before.

        Raises:
            Forbidden: the room is none of the reader's business.
            NotFound: there is no such event, or none among those looked at.
        """
        access = await self._access.of(requester, room_id)
        upto = NEWEST if access.left_at is None else max(access.left_at, access.own)
        search = TimeSearch(access.room.name.nid, backwards, upto)
        viewer = Viewer(requester.user_id, requester.user_nid)

        async def first(events: Sequence[PersistedEvent]) -> PersistedEvent | None:
            seen = (await self._visibility.many(viewer, {access.room: events}))[access.room]
            return seen[0].persisted if seen else None

        found, left_off = await self._search(search, ts, first)
        if found is None and left_off is not None:
            found = await self._while_there(requester, search, left_off, first)
        if access.room.membership(requester.user_id) == JOIN:
            found = await self._from_elsewhere(requester, access.room, _Asked(search, ts, first), found)
        if found is None:
            raise none_found(ts, backwards=backwards)
        return found

    async def _from_elsewhere(
        self, requester: Requester, room: Room, asked: _Asked, found: PersistedEvent | None
    ) -> PersistedEvent | None:
        """A closer event, where one may lie in a gap of what is here: between what was found and what stands on the other side of
        the moment. Everything from the gap's end to it is fetched, so that who pages on from it misses nothing.
        """
        elsewhere, backfiller = self._elsewhere, self._backfiller
        search, ts, first = asked
        if elsewhere is None or backfiller is None:
            return found
        if not await self._pages.open_gaps(search.room_nid, OLDEST, NEWEST):
            return found
        other = (await self._search(search._replace(backwards=not search.backwards), ts, first))[0]
        before, after = (found, other) if search.backwards else (other, found)
        place = before.nid if before is not None else OLDEST, after.nid if after is not None else NEWEST
        told = None
        for _ in range(MAX_ROUNDS):
            gaps = await self._pages.open_gaps(search.room_nid, *place)
            if not gaps:
                break
            if told is None:
                told = await elsewhere.closest(room.name, ts, backwards=search.backwards)
                if told is None or not _is_closer(told.ts, found, asked):
                    return found
            elif await self._is_here(told.event_id):
                break
            if not await backfiller.find_older(requester, room.name, gaps[0].missing, FOUND_AT_ONCE):
                break
        return (await self._search(search, ts, first))[0] if told is not None else found

    async def _is_here(self, event_id: EventId) -> bool:
        persisted = await self._events.by_id(event_id)
        return persisted is not None and not persisted.hidden

    async def first_of(
        self, room_nid: int, ts: int, *, backwards: bool, first: FirstVisible
    ) -> PersistedEvent | None:
        """As `closest`, for whoever `first` chooses for: of events in the order of the search, the first that is told."""
        return (await self._search(TimeSearch(room_nid, backwards, NEWEST), ts, first))[0]

    async def _search(
        self, search: TimeSearch, ts: int, first: FirstVisible
    ) -> tuple[PersistedEvent | None, Moment | None]:
        """What was found; if nothing, where the search was given up (None: at the end of the room)."""
        ts = max(-MAX_TIME, min(ts, MAX_TIME))
        position = Moment(ts, NEWEST if search.backwards else -NEWEST)
        for size in PAGES:
            page, whole = await self._page(search, position, size)
            found = await self._first(page, first)
            if found is not None or whole:
                return found, None
            position = page[-1]
        return None, position

    async def _page(self, search: TimeSearch, position: Moment, size: int) -> tuple[list[Moment], bool]:
        """The next events in the order of time, and whether these are all there are.

        State is looked for in the log between the message before the page and its last one.
        """
        async with self._db.read() as tx:
            messages = await store.find_messages(tx, search, position, size)
            back = search._replace(backwards=not search.backwards)
            before = await store.find_messages(tx, back, _beside(position, search), 1)
            whole = len(messages) < size
            nids = [moment.event_nid for moment in (*before, *messages)]
            lowest, highest = min(nids, default=OLDEST), max(nids, default=NEWEST)
            if not before or whole:  # the page reaches to an end of the room
                start_open, end_open = (whole, not before) if search.backwards else (not before, whole)
                lowest, highest = OLDEST if start_open else lowest, NEWEST if end_open else highest
            state = await store.find_state(tx, search, Stay(lowest, highest))
        last = None if whole else messages[-1]
        between = [moment for moment in state if _is_between(position, moment, last, search)]
        page = sorted([*messages, *between], reverse=search.backwards)
        return page[: 2 * size], whole and len(page) <= 2 * size

    async def _first(self, page: Sequence[Moment], first: FirstVisible) -> PersistedEvent | None:
        loaded = await self._events.load([moment.event_nid for moment in page])
        return await first([loaded[moment.event_nid] for moment in page if moment.event_nid in loaded])

    async def _while_there(
        self, requester: Requester, search: TimeSearch, position: Moment, first: FirstVisible
    ) -> PersistedEvent | None:
        async with self._db.read() as tx:
            rows = await store.list_memberships(tx, requester.user_nid, search.room_nid)
            stays = _stays(rows)[-MAX_STAYS:]
            if not stays:
                return None
            own = await store.find_moments(tx, [nid for stay in stays for nid in stay])
            page = await store.find_messages_within(tx, search, position, stays, PAGES[0])
        ends = [moment for moment in own if _is_between(position, moment, None, search)]
        return await self._first(sorted([*page, *ends], reverse=search.backwards), first)


def _is_closer(told: int, found: PersistedEvent | None, asked: _Asked) -> bool:
    """Whether an event of this time is on the right side of the moment, and closer than what was found."""
    low, high = (told, asked.ts) if asked.search.backwards else (asked.ts, told)
    if low > high:
        return False
    return found is None or abs(told - asked.ts) < abs(found.event.origin_server_ts - asked.ts)


def none_found(ts: int, *, backwards: bool) -> NotFound:
    """There is no such event, or none among those looked at."""
    return NotFound(f"Unable to find event from {ts} in {'backward' if backwards else 'forward'} direction")


def _beside(position: Moment, search: TimeSearch) -> Moment:
    """Where the search in the other direction begins: with what stands at the place itself, if there is something."""
    return position._replace(event_nid=position.event_nid + (-1 if search.backwards else 1))


def _is_between(start: Moment, moment: Moment, last: Moment | None, search: TimeSearch) -> bool:
    """Whether a search that goes on from `start` meets the moment, and no later than `last`."""
    if search.backwards:
        return moment < start and (last is None or moment >= last)
    return moment > start and (last is None or moment <= last)


def _stays(memberships: Sequence[tuple[int, int]]) -> list[Stay]:
    """`memberships`: (event_nid, membership) in order."""
    stays: list[Stay] = []
    joined: int | None = None
    for nid, membership in memberships:
        if membership == JOIN and joined is None:
            joined = nid
        elif membership != JOIN and joined is not None:
            stays.append(Stay(joined, nid))
            joined = None
    return [*stays, Stay(joined, NEWEST)] if joined is not None else stays
