"""Searching: what matches, in which order, and a page of it.

spec: client-server-api/#server-side-search (SRCH-01, SRCH-02)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg

from homeserver.events.filtering import RoomEventFilter
from homeserver.graph.interning import Interning
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.page_size import ANSWER_BYTES, weight
from homeserver.graph.read.visibility import Viewer
from homeserver.log.entries import Position
from homeserver.matrix.cutting import Term, read_term
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, UserId
from homeserver.rooms.reading import ReadingService
from homeserver.search.answers import Answers, Found
from homeserver.search.lately import Lately
from homeserver.search.matches_store import Match
from homeserver.search.pages import Result, Results
from homeserver.search.readable import Readable
from homeserver.search.tokens import Place, parse_place
from homeserver.search.types import Criteria
from homeserver.search.window import Asked, Window, Windows
from homeserver.search.words import FILE, KINDS, TYPES
from homeserver.web.auth import Requester


class SearchService:
    """Answers searches. Keeps nothing in memory."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        lately: Lately,
        interning: Interning,
        bundles: Bundles,
        reading: ReadingService,
        readable: Readable,
        windows: Windows,
        results: Results,
        answers: Answers,
    ) -> None:
        self._lately = lately
        self._interning = interning
        self._bundles = bundles
        self._reading = reading
        self._readable = readable
        self._windows = windows
        self._results = results
        self._answers = answers

    async def search(self, requester: Requester, criteria: Criteria, next_batch: str | None) -> bytes:
        """The `room_events` of an answer, as JSON. Raises `InvalidParam` for a token that is not one of this search."""
        place = None if next_batch is None else parse_place(next_batch, criteria.order_by)
        viewer = Viewer(requester.user_id, requester.user_nid)
        wanted = criteria.filter or RoomEventFilter()
        term = read_term(criteria.search_term)
        ends = await self._readable.rooms(viewer, wanted) if term.rows else {}
        if place is None and ends:
            await self._lately.indexed(ends.keys())
        asked = await self._asked(viewer, term, criteria, wanted, ends)
        if place is not None and place.group is not None:
            asked = await self._of_group(asked, place)
        found = await self._found(viewer, asked, ends, criteria, place)
        found = await self._page(requester, ends, criteria, found)
        return await self._answers.build(requester, ends, criteria, term, found)

    # --- what is looked for --------------------------------------------------------------------------------------

    async def _asked(
        self,
        viewer: Viewer,
        term: Term,
        criteria: Criteria,
        wanted: RoomEventFilter,
        ends: Mapping[int, Position],
    ) -> Asked:
        senders = None if wanted.senders is None else await self._numbers(wanted.senders)
        refused = await self._numbers(wanted.not_senders) if wanted.not_senders else []
        ignored = await self._bundles.ignored(viewer)
        kinds = [
            kind
            for key in (criteria.keys if criteria.keys is not None else KINDS)
            for kind in KINDS[key]
            if wanted.matches_parts(TYPES[kind], None)
            and (wanted.contains_url is None or wanted.contains_url == (kind == FILE))
        ]
        return Asked(term, kinds, tuple(ends), senders, sorted({*refused, *ignored}))

    async def _numbers(self, user_ids: Sequence[str]) -> list[int]:
        """user_nids of those that are known."""
        found = await self._interning.find_user_nids([UserId(each) for each in dict.fromkeys(user_ids)])
        return sorted(found.values())

    async def _of_group(self, asked: Asked, place: Place) -> Asked:
        assert place.group is not None
        if place.group.key == "sender":
            of = await self._numbers([place.group.value])
            senders = of if asked.senders is None else [nid for nid in of if nid in asked.senders]
            return asked._replace(senders=senders)
        names = await self._interning.rooms(asked.rooms)
        return asked._replace(
            rooms=tuple(nid for nid, name in names.items() if name.room_id == place.group.value)
        )

    # --- what is found -------------------------------------------------------------------------------------------

    async def _found(
        self,
        viewer: Viewer,
        asked: Asked,
        ends: Mapping[int, Position],
        criteria: Criteria,
        place: Place | None,
    ) -> Found:
        if place is None:
            place = Place(criteria.order_by, self._lately.end + 1, None, whole=False, count=-1)
        window = await self._window(asked, place)
        if place.since is None:
            place = Place(
                place.order, place.before, window.since, window.whole, place.count, group=place.group
            )
        matches = await self._readable.seen(viewer, ends, window.matches)
        if place.order == "rank":
            matches.sort(key=_by_rank)
        if place.count < 0:
            place = Place(
                place.order, place.before, place.since, place.whole, len(matches), group=place.group
            )
        return Found(place, matches, _next(matches, place), [])

    async def _window(self, asked: Asked, place: Place) -> Window:
        try:
            return await self._windows.newest(asked, place.before, place.since)
        except psycopg.errors.QueryCanceled:
            # Too many words begin so: then it is a word.
            if asked.term.prefix is None:
                raise
            return await self._windows.newest(
                asked._replace(term=asked.term.whole()), place.before, place.since
            )

    async def _page(
        self, requester: Requester, ends: Mapping[int, Position], criteria: Criteria, found: Found
    ) -> Found:
        """Results from `found.next` on, as many as are asked for and as an answer has room for."""
        viewer = Viewer(requester.user_id, requester.user_nid)
        results: list[Result] = []
        states: dict[str, bytes] = {}
        at, size = found.next, 0
        while len(results) < criteria.limit and at < len(found.matches):
            some = found.matches[at : at + criteria.limit - len(results)]
            shown = await self._results.of(viewer, ends, some)
            for match in some:
                if (result := shown.get(match.event_nid)) is not None:
                    room_id = result.room.name.room_id
                    state = b""
                    if criteria.include_state and room_id not in states:
                        state = await self._state(requester, room_id)
                    size += len(state) + weight(result.seen.persisted)
                    if size > ANSWER_BYTES and results:
                        return found._replace(next=at, results=results, states=states)
                    results.append(result)
                    if state:
                        states[room_id] = state
                at += 1
        return found._replace(next=at, results=results, states=states)

    async def _state(self, requester: Requester, room_id: RoomId) -> bytes:
        """The state of a room as the reader may read it, a JSON array."""
        try:
            return await self._reading.state(requester, room_id)
        except Forbidden:  # they have just left for good
            return b"[]"


def _by_rank(match: Match) -> tuple[float, int]:
    return -match.rank, -match.event_nid


def _next(matches: Sequence[Match], place: Place) -> int:
    """Index of the first match behind the one that was told last."""
    if place.nid is None:
        return 0
    last = place.nid
    if place.order == "recent":
        return sum(match.event_nid >= last for match in matches)
    return sum(_by_rank(match) <= (-place.rank, -last) for match in matches)
