"""Timelines: the newest events of each room since the client was here, and where they begin.

spec: client-server-api/#syncing (SYNC-04)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.page_size import fitting, weight
from homeserver.graph.read.visibility import Visible
from homeserver.log.entries import Position
from homeserver.matrix.ids import UserId
from homeserver.runtime.turns import Steps, next_turn, pieces
from homeserver.storage.database import Database
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.selection import store
from homeserver.sync.selection.classify import Classified
from homeserver.sync.selection.summary import changes_summary
from homeserver.sync.types import SyncRequest

StateNumbers = dict[StateKey, int]
DEFAULT_LIMIT, MAX_LIMIT = 10, 100
ROOM_BYTES = 2**20
"""Of the events in one room's timeline; what is older is behind `prev_batch`, as it is beyond the limit in number."""
ANSWER_BYTES = 16 * 2**20
"""Of the events in all timelines of an answer that are read for it; then each room has its share, at least one event."""
ROWS_AT_ONCE = 10_000
"""The most rows of one query for the newest events of rooms."""
STEPS = 1_000
"""Events that are loaded and looked at in one turn, and rooms, each of which is as much as ten of them."""
SMALL = 16
"""Events that are never more than `ROOM_BYTES`."""
FILTERED_SCAN = 200
"""Events looked at per room for a filter that lets few through."""


_NONE: Final[Mapping[int, Timeline]] = {}


class Told(NamedTuple):
    """What decides who can be told a timeline in the words that others are told it in."""

    first: Position
    """Its first event."""
    before: Position
    """The oldest event that one of its state events replaced; its first event if there is none. Not everybody may see what
    was there before them."""
    senders: frozenset[UserId]
    devices: frozenset[tuple[int, str]]
    """(user_nid, device_id) of devices that sent something in it: they are told the transaction."""


@dataclass(frozen=True)
class Timeline:
    """One room's timeline before it is shown to anybody."""

    raw: Sequence[PersistedEvent]
    """Every event after `start` in the slice, oldest first, without holes."""
    events: Sequence[PersistedEvent]
    """Those the client asked for."""
    limited: bool
    start: Position
    """`prev_batch`: events at or before it are not in the timeline."""

    @cached_property
    def told(self) -> Told | None:
        """None where each reader's section is their own: gaps, summaries, events that came late, nothing to show."""
        if self.limited or not self.events:
            return None
        if any(persisted.branched or changes_summary(persisted) for persisted in self.events):
            return None
        replaced = [persisted.replaced.ref.nid for persisted in self.events if persisted.replaced is not None]
        return Told(
            self.raw[0].nid,
            min(replaced, default=self.raw[0].nid),
            frozenset(persisted.event.sender for persisted in self.events),
            frozenset(persisted.sent_by[:2] for persisted in self.events if persisted.sent_by is not None),
        )


class Timelines:
    """Cuts the timelines of an answer. Keeps nothing in memory."""

    def __init__(self, db: Database, events: EventCache, most: int = MAX_LIMIT) -> None:
        """`most`: events of a room in one answer, whatever the filter says."""
        self._most = most
        self._db = db
        self._events = events

    async def of(self, request: SyncRequest, rooms: Classified) -> dict[int, Timeline]:
        """A timeline for each room that is new, left, or has events. Two queries, of many rooms one more for some of them."""
        limit = max(0, min(_limit(request), self._most))
        log_slices = dict.fromkeys(rooms.new, (0, request.upto))
        found: dict[int, Timeline] = {}
        for room, at in rooms.left.items():
            log_slices[room] = (0 if room in rooms.passed else request.since or 0, at)
        if request.since is not None:
            known = rooms.joined - rooms.new if rooms.new else rooms.joined
            if request.recent is not None:
                found = _from_memory(request, request.recent, known, limit)
            else:
                log_slices.update(dict.fromkeys(known, (request.since, request.upto)))
        if log_slices:
            found.update(await self._from_database(request, log_slices, limit))
        return found

    async def _from_database(
        self, request: SyncRequest, log_slices: Mapping[int, tuple[Position, Position]], limit: int
    ) -> dict[int, Timeline]:
        selective = request.filter.room.timeline.selective
        scan = max(FILTERED_SCAN, limit) if selective else limit
        newest: dict[int, store.Newest] = {}
        for some in pieces(log_slices, max(1, ROWS_AT_ONCE // (scan + 1))):
            async with self._db.read() as tx:
                slices = (
                    log_slices if len(some) == len(log_slices) else {nid: log_slices[nid] for nid in some}
                )
                newest |= await store.newest_events(tx, slices, scan + 1)
        share = _share(newest)
        found: dict[int, Timeline] = {}
        steps = Steps(STEPS)
        for rooms in pieces(newest, max(1, STEPS // (10 + scan))):
            if steps.full(sum(10 + len(newest[room].events) for room in rooms)):
                await next_turn()
            since = {room: newest[room].since for room in rooms}
            raw: dict[int, list[int]] = {}
            for room in rooms:
                events = newest[room].events
                kept = min(scan, fitting((size for _, size in reversed(events)), share))
                raw[room] = [nid for nid, _ in events[len(events) - kept :]]
                if kept < len(events):
                    since[room] = events[len(events) - kept - 1][0]
            loaded = await self._events.load([nid for nids in raw.values() for nid in nids])
            for room, nids in raw.items():
                more = len(nids) < len(newest[room].events) or newest[room].since > log_slices[room][0]
                found[room] = _cut(request, [loaded[nid] for nid in nids], limit, since[room], more=more)
        return found


def _share(newest: Mapping[int, store.Newest]) -> int:
    """Bytes that each room's timeline may have."""
    total = sum(min(ROOM_BYTES, sum(size for _, size in each.events)) for each in newest.values())
    return ROOM_BYTES if total <= ANSWER_BYTES else ANSWER_BYTES // len(newest)


def cut_already(log_slice: LogSlice, limit: int) -> Mapping[int, Timeline]:
    """room_nid -> timeline, of those of a slice that were cut for somebody who is not choosy."""
    found: Mapping[int, Timeline] = log_slice.shared.get((Timeline, limit), _NONE)
    return found


def _from_memory(
    request: SyncRequest, log_slice: LogSlice, known: frozenset[int], limit: int
) -> dict[int, Timeline]:
    """Of rooms with events; shared with whoever asks for as many of this slice and is not choosy."""
    assert request.since is not None
    by_room = log_slice.by_room
    choosy = request.filter.room.timeline.selective
    shared: dict[int, Timeline] = {} if choosy else log_slice.shared.setdefault((Timeline, limit), {})
    fewer, more = (by_room, known) if len(by_room) < len(known) else (known, by_room)
    found: dict[int, Timeline] = {}
    for room in fewer:
        if room in more:
            timeline = shared.get(room)
            if timeline is None:
                events, since = by_room[room], request.since
                if gap := log_slice.gaps.get(room):
                    events, since = [each for each in events if each.nid >= gap], gap - 1
                timeline = shared[room] = _cut(request, events, limit, since, more=gap is not None)
            found[room] = timeline
    return found


def _cut(
    request: SyncRequest, raw: Sequence[PersistedEvent], limit: int, since: Position, *, more: bool
) -> Timeline:
    """The newest `limit` events that the filter wants, and at most `ROOM_BYTES` of them."""
    wanted = request.filter.room.timeline
    events = [persisted for persisted in raw if wanted.matches(persisted.event)] if wanted.selective else raw
    if len(events) > SMALL:
        limit = min(limit, fitting(map(weight, reversed(events)), ROOM_BYTES))
    if len(events) <= limit:
        return Timeline(raw, events, more, since)
    events = events[len(events) - limit :]
    start = events[0].nid - 1 if events else raw[-1].nid
    return Timeline([persisted for persisted in raw if persisted.nid > start], events, True, start)


def begun_later(timeline: Timeline, visible: Sequence[Visible]) -> tuple[Timeline, Sequence[Visible]]:
    """The timeline beginning after the newest shown event of each key that an event has set since which is not shown:
    clients take the state first and the timeline then, and would end with the older one. With it, what is left to show.
    (SYNC-05)
    """
    shown = {item.persisted.nid for item in visible}
    unseen: StateNumbers = {
        each.event.key: each.nid for each in timeline.raw if each.event.key and each.nid not in shown
    }
    newest = newest_shown(visible)
    start = max((nid for key, nid in newest.items() if unseen.get(key, 0) > nid), default=None)
    if start is None:
        return timeline, visible
    rest = Timeline(
        [persisted for persisted in timeline.raw if persisted.nid > start],
        [persisted for persisted in timeline.events if persisted.nid > start],
        limited=True,
        start=start,
    )
    return rest, [item for item in visible if item.persisted.nid > start]


def newest_shown(visible: Sequence[Visible]) -> StateNumbers:
    """Key -> the newest state event of what is shown."""
    return {
        item.persisted.event.key: item.persisted.nid
        for item in visible
        if item.persisted.event.key is not None
    }


def limited_if_new(timeline: Timeline, visible: Sequence[Visible]) -> Timeline:
    """Of a room that is new to the client: limited, unless what is shown begins with the room itself. Clients join what is
    not limited to what they have of an earlier stay. (SYNC-04)
    """
    if timeline.limited or not timeline.raw:
        return timeline
    first = visible[0].persisted.nid if visible else None
    if first == timeline.raw[0].nid:
        return timeline
    start = timeline.raw[-1].nid if first is None else first - 1
    return replace(timeline, limited=True, start=start)


def _limit(request: SyncRequest) -> int:
    limit = request.filter.room.timeline.limit
    return DEFAULT_LIMIT if limit is None else limit
