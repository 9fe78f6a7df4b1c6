"""History: paging through a room's events, and what stood around one of them.

spec: client-server-api/#get_matrixclientv3roomsroomidmessages, #event-context (ROOM-22, ROOM-23)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from homeserver.events.client_format import room_member
from homeserver.events.event import StateKey
from homeserver.events.filtering import RoomEventFilter
from homeserver.events.visibility import WORLD_READABLE, history_visibility_of
from homeserver.graph.event_cache import EventCache
from homeserver.graph.gaps import bottom_of
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent, Reader
from homeserver.graph.read.bundles import Bundles
from homeserver.graph.read.page_size import (
    ANSWER_BYTES,
    PAGE_BYTES,
    SCANNED_BYTES,
    at,
    beyond,
    fitting,
    in_parts,
    weight,
)
from homeserver.graph.read.pages import NEWEST, OLDEST, Pages, Wanted
from homeserver.graph.read.visibility import (
    HISTORY_VISIBILITY,
    Viewer,
    VisibilityFilter,
    Visible,
    as_state,
    plain_after,
)
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.graph.state.states import StateStore
from homeserver.log.entries import Position
from homeserver.matrix.errors import NotFound
from homeserver.matrix.ids import EventId, RoomId, UserId
from homeserver.matrix.tokens import format_token
from homeserver.rooms.access import Access, RoomAccess
from homeserver.rooms.ports import Backfiller
from homeserver.runtime.clock import Clock
from homeserver.runtime.turns import next_turn
from homeserver.web.auth import Requester

MAX_LIMIT = 1_000
LARGE = 2**18
"""Bytes of a page from which putting it together takes milliseconds: one is at a time."""
MAX_ROUNDS = 3
"""How often other servers are asked for one page."""
LEAST_FOUND = 50
"""Older events that other servers are asked for at once, at least."""
MAX_SCANNED = 2_000
"""Events looked at for one page, however few of them the filter lets through."""


class Page(NamedTuple):
    """A page of `/messages`; events and state are JSON."""

    chunk: list[bytes]
    start: str
    end: str | None
    state: list[bytes]


class Context(NamedTuple):
    """What stands around an event; events are JSON."""

    event: bytes
    before: list[bytes]
    after: list[bytes]
    start: str
    end: str
    state: list[bytes]


class _Range(NamedTuple):
    """Which events are looked for."""

    origin: Position
    stop: Position | None
    backwards: bool
    limit: int
    most_bytes: int = PAGE_BYTES


class HistoryService:
    """Pages of what a user may see."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of; built in one place
        self,
        pages: Pages,
        access: RoomAccess,
        bundles: Bundles,
        interning: Interning,
        events: EventCache,
        states: StateStore,
        visibility: VisibilityFilter,
        clock: Clock,
        most: int = MAX_LIMIT,
    ) -> None:
        self._pages = pages
        self._access = access
        self._bundles = bundles
        self._interning = interning
        self._events = events
        self._states = states
        self._visibility = visibility
        self._clock = clock
        self._most = most
        self._backfiller: Backfiller | None = None

    def find_older_with(self, backfiller: Backfiller) -> None:
        """Plug in who asks other servers for what is missing."""
        self._backfiller = backfiller

    async def messages(
        self,
        requester: Requester,
        room_id: RoomId,
        *,
        start: Position | None,
        stop: Position | None,
        backwards: bool,
        limit: int,
        wanted: RoomEventFilter,
    ) -> Page:
        """Events from a token on, in one direction, at most `limit`, and at most some megabytes.

        `start` None: from the newest (backwards) or oldest. `end` is None when there is nothing more. Raises `Forbidden`.
        """
        access = await self._access.of(requester, room_id)
        origin = start if start is not None else (NEWEST if backwards else OLDEST)
        limit = max(0, min(limit, self._most))
        asked = _Range(origin, stop, backwards, limit)
        if access.left_at is not None and backwards:
            found, end = await self._scan_back_from_leave(requester, access, asked, wanted)
        else:
            found, end = await self._scan(requester, access, asked, wanted)
        shown = start if start is not None else await self._shown_start(access, found, backwards)
        lazy = wanted.lazy_load_members
        state = await self._lazy_members(access.room, found, backwards=backwards) if lazy else []
        extra = await self._extra(requester, access.room, found)
        if sum(weight(each.persisted) for each in found) > LARGE:
            await next_turn()
        chunk = self._render(requester, room_id, found, extra)
        if (fits := fitting(map(len, chunk), ANSWER_BYTES)) < len(chunk):
            chunk, end = chunk[:fits], at(found[fits].persisted.nid, backwards=backwards)
        return Page(
            chunk,
            format_token(shown),
            None if end is None else format_token(end),
            self._render(requester, room_id, self._as_state(requester, access, state), {}),
        )

    async def context(
        self, requester: Requester, room_id: RoomId, event_id: EventId, limit: int, wanted: RoomEventFilter
    ) -> Context:
        """The event, and up to `limit` events around it together. Raises `NotFound`, `Forbidden`."""
        access = await self._access.of(requester, room_id)
        target = await self._events.by_id(event_id)
        if target is None or target.room_nid != access.room.name.nid:
            raise NotFound("There is no such event")
        viewer = Viewer(requester.user_id, requester.user_nid)
        seen = await self._visibility.one(viewer, access.room, target)
        if seen is None:
            raise NotFound("There is no such event")
        limit = max(0, min(limit, self._most))
        half = PAGE_BYTES // 2
        back = _Range(target.nid - 1, None, True, limit // 2, half)
        before, start = await self._scan(requester, access, back, wanted)
        forth = _Range(target.nid, None, False, limit - limit // 2, half)
        after, end = await self._scan(requester, access, forth, wanted)
        last = after[-1].persisted if after else target
        state = await self._state_at(requester, access, last, [*before, seen, *after], wanted)
        extra = await self._extra(requester, access.room, [seen, *before, *after])
        return Context(
            self._render(requester, room_id, [seen], extra)[0],
            self._render(requester, room_id, before, extra),
            self._render(requester, room_id, after, extra),
            format_token(
                start if start is not None else (before[-1].persisted.nid - 1 if before else target.nid - 1)
            ),
            format_token(end if end is not None else last.nid),
            self._render(requester, room_id, self._as_state(requester, access, state), {}),
        )

    # --- inside --------------------------------------------------------------------------------------------------

    async def _scan(
        self, requester: Requester, access: Access, asked: _Range, wanted: RoomEventFilter
    ) -> tuple[list[Visible], Position | None]:
        """Visible events that the filter wants, and the position to go on from (None: the end).

        Other servers are asked for what is missing where somebody who is in the room pages back to a gap.
        """
        room, asks = access.room, self._backfiller
        joined = room.membership(requester.user_id) == JOIN
        found: list[Visible] = []
        passed: set[int] = set()
        rounds = 0
        while asks is not None and asked.backwards and joined:
            stop = asked.stop if asked.stop is not None else OLDEST
            gaps = await self._pages.open_gaps(room.name.nid, stop, asked.origin)
            gap = next((gap for gap in gaps if gap.number not in passed), None)
            if gap is None:
                break
            part = asked._replace(stop=gap.position - 1)
            more, end = await self._scan_here(requester, access, part, wanted)
            found += more
            if end is not None:
                return found, end
            origin = beyond(more[-1].persisted.nid, backwards=True) if more else asked.origin
            asked = asked._replace(origin=origin, limit=asked.limit - len(more))
            rounds += 1
            if rounds > MAX_ROUNDS or not await asks.find_older(
                requester, room.name, gap.missing, max(LEAST_FOUND, asked.limit)
            ):
                passed.add(gap.number)
                asked = asked._replace(origin=bottom_of(gap.number))
        more, end = await self._scan_here(requester, access, asked, wanted)
        found += more
        if end is None and passed and found:  # perhaps they answer the next time
            end = beyond(found[-1].persisted.nid, backwards=True)
        return found, end

    async def _scan_here(
        self, requester: Requester, access: Access, asked: _Range, wanted: RoomEventFilter
    ) -> tuple[list[Visible], Position | None]:
        """The same of what is here."""
        room, viewer = access.room, Viewer(requester.user_id, requester.user_nid)
        position, stop, backwards, limit, left = asked
        last = stop if stop is not None else (OLDEST if backwards else NEWEST)
        found: list[Visible] = []
        scanned = read = 0
        while len(found) < limit and scanned < MAX_SCANNED and read < SCANNED_BYTES:
            size = min(MAX_SCANNED - scanned, limit - len(found) if not wanted.selective else 4 * limit)
            nids = await self._pages.page(room.name.nid, Wanted(position, last, backwards, size))
            async for part in in_parts(self._events, nids):
                page = part.events
                if wanted.selective:
                    page = [persisted for persisted in page if wanted.matches(persisted.event)]
                for item in (await self._visibility.many(viewer, {room: page}))[room]:
                    left -= weight(item.persisted)
                    if left < 0 and found:
                        return found, at(item.persisted.nid, backwards=backwards)
                    found.append(item)
                    if len(found) == limit:
                        return found, beyond(item.persisted.nid, backwards=backwards)
                read += part.size
                if read >= SCANNED_BYTES and part.last != nids[-1]:
                    return found, beyond(part.last, backwards=backwards)
            scanned += len(nids)
            if len(nids) < size:
                return found, None
            position = beyond(nids[-1], backwards=backwards)
        return found, position

    async def _scan_back_from_leave(
        self, requester: Requester, access: Access, asked: _Range, wanted: RoomEventFilter
    ) -> tuple[list[Visible], Position | None]:
        """As `_scan`, backwards, for who has left: what has become of their own membership since (HV-02), then everything
        up to their leave.
        """
        assert access.left_at is not None
        later = await self._access.own_since(requester, access, asked.origin)
        page = [
            each
            for each in reversed(later)
            if each.nid > (asked.stop or OLDEST) and wanted.matches(each.event)
        ]
        viewer = Viewer(requester.user_id, requester.user_nid)
        own = (await self._visibility.many(viewer, {access.room: page}))[access.room][: asked.limit]
        if own and len(own) == asked.limit:
            return own, own[-1].persisted.nid - 1
        leave = min(asked.origin, access.left_at)  # nothing else that is newer
        rest = asked._replace(origin=leave, limit=asked.limit - len(own))
        found, end = await self._scan(requester, access, rest, wanted)
        return [*own, *found], end

    async def _shown_start(self, access: Access, found: Sequence[Visible], backwards: bool) -> Position:
        if not found:
            return access.room.last_event
        first = found[0].persisted.nid
        return first if backwards else first - 1

    async def _lazy_members(
        self, room: Room, found: Sequence[Visible], *, backwards: bool
    ) -> list[PersistedEvent]:
        """Membership of each sender as of the first event of theirs in the page (FILT-04). Most are still what they were."""
        first: dict[UserId, PersistedEvent] = {
            event.sender: persisted
            for persisted, _, _ in (
                found if backwards else reversed(found)
            )  # newest first: earlier ones replace them
            if (event := persisted.event).type != "m.room.create"  # its sender joins with the next event
        }
        nids: set[int] = set()
        earlier: dict[StateKey, int] = {}
        for sender, persisted in first.items():
            member = room.members.get(sender)
            if member is not None and 0 < member.event_nid <= persisted.nid:
                nids.add(member.event_nid)
            else:
                earlier["m.room.member", sender] = persisted.state_after_nid
        if earlier:
            numbers = await self._interning.find_key_nids(earlier)
            values = await self._states.values(set(earlier.values()), list(numbers.values()))
            nids |= {values[state].get(numbers.get(key, 0), 0) for key, state in earlier.items()}
        return list((await self._events.load(nids - {0})).values())

    async def _state_at(  # one value each, called in one place
        self,
        requester: Requester,
        access: Access,
        last: PersistedEvent,
        shown: Sequence[Visible],
        wanted: RoomEventFilter,
    ) -> list[PersistedEvent]:
        """State at the last event returned; of members only the senders' if they are lazy."""
        state = await self._state_shown(requester, access, last)
        nids = set(state.values())
        if wanted.lazy_load_members:
            names = await self._interning.keys(state.keys())
            senders = {item.persisted.event.sender for item in shown}
            nids = {
                event
                for key, event in state.items()
                if names[key][0] != "m.room.member" or names[key][1] in senders
            }
        return [
            persisted
            for persisted in (await self._events.load(nids)).values()
            if wanted.matches(persisted.event)
        ]

    async def _state_shown(
        self, requester: Requester, access: Access, last: PersistedEvent
    ) -> Mapping[int, int]:
        """The state at an event. Who has left is shown a later event because it is about them, or because the world could
        read the room then: in the former case the state is that of their leave, but for their own membership.
        """
        state = await self._states.load(last.state_after_nid)
        if access.left_at is None or last.nid <= access.left_at:
            return state
        mine: StateKey = ("m.room.member", requester.user_id)
        keys = await self._interning.find_key_nids([HISTORY_VISIBILITY, mine])
        nid = state.get(keys.get(HISTORY_VISIBILITY, 0))
        visibility = await self._events.one(nid) if nid else None
        if history_visibility_of(visibility.event if visibility else None) == WORLD_READABLE:
            return state
        left = dict(await self._states.load(access.left_at))
        if state.get(keys.get(mine, 0)):
            left[keys[mine]] = state[keys[mine]]
        return left

    def _as_state(
        self, requester: Requester, access: Access, state: Sequence[PersistedEvent]
    ) -> list[Visible]:
        viewer = Viewer(requester.user_id, requester.user_nid)
        plain = plain_after(access.room, viewer)
        return [as_state(plain, viewer, persisted) for persisted in state]

    async def _extra(self, requester: Requester, room: Room, found: Sequence[Visible]) -> dict[int, bytes]:
        viewer = Viewer(requester.user_id, requester.user_nid)
        return await self._bundles.of(viewer, requester.device_id, {room: [item.persisted for item in found]})

    def _render(
        self, requester: Requester, room_id: RoomId, items: Sequence[Visible], extra: Mapping[int, bytes]
    ) -> list[bytes]:
        reader, now = Reader(requester.user_nid, requester.device_id), self._clock.now_ms()
        members = room_member(room_id)
        if not extra:
            return [
                persisted.render(reader, membership, now, previous, b"", members)
                for persisted, membership, previous in items
            ]
        return [
            persisted.render(reader, membership, now, previous, extra.get(persisted.nid, b""), members)
            for persisted, membership, previous in items
        ]
