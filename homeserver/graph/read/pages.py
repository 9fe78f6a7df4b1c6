"""Pages of a room: the numbers of its visible events before or after a position, from memory where the room is being read.

Of a room that is read, a range is kept: the numbers of all visible events in (low, high]. What is written stays in its
place, so a range does not age; one that reaches the end of the log grows with the room. What is found in gaps of the history
has negative numbers (`graph.gaps`), and is always asked for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from homeserver.graph.entry import BackfillEntry, EventEntry
from homeserver.graph.gaps import NEWEST, OLDEST, Gap, is_between, segments
from homeserver.log.entries import Entry, Position
from homeserver.log.remembered import Remembered
from homeserver.log.tail import Tail
from homeserver.matrix.ids import EventId
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

__all__ = ["NEWEST", "OLDEST", "OpenGap", "Pages", "Wanted"]

MAX_GAPS = 1_000
"""Of a room: those that something was found in, the newest, count."""
MAX_MISSING = 20
GAP_BYTES = 150
SHARE = 1.0
CACHED_OF_ROOM = 10_000
RANGE_BYTES, NUMBER_BYTES = 600, 8
"""What a range takes in the cache, and each number in it."""


class Wanted(NamedTuple):
    """Backwards: at or before `position` and after `stop`, newest first. Else: after it and not beyond `stop`, oldest first."""

    position: Position
    stop: Position
    backwards: bool
    limit: int


class CachedRange:
    """The visible events of a room in (low, high], oldest first; `high` is `NEWEST` while it grows with the room."""

    __slots__ = ("came", "high", "low", "nids")

    def __init__(self) -> None:
        self.low: Position = 0
        self.high: Position = 0
        self.nids: array[int] = array("q")
        self.came = 0
        """Events of the room since the range is here."""

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return RANGE_BYTES + NUMBER_BYTES * len(self.nids)

    def page(self, wanted: Wanted) -> list[int] | None:
        """None if not all of it is here."""
        position, stop, backwards, limit = wanted
        if not self.low <= position <= self.high:
            return None
        here, there = bisect_right(self.nids, position), bisect_right(self.nids, stop)
        if backwards:
            first = max(there, here - limit)
            found = self.nids[first:here].tolist()[::-1]
            return found if len(found) == limit or stop >= self.low else None
        found = self.nids[here : min(there, here + limit)].tolist()
        return found if len(found) == limit or stop <= self.high else None

    def append(self, nid: int) -> None:
        """A visible event has come."""
        if self.high == NEWEST:
            self.nids.append(nid)
            self._cut()

    def learn(self, nids: Sequence[int], low: Position, high: Position) -> None:
        """These, oldest first, are all visible events in (low, high]. What lies apart and is older is not kept."""
        low = max(low, 0)
        if low >= high or high < self.low:
            return
        if low > self.high:
            self.nids, self.low, self.high = array("q", nids), low, high
        else:
            below = [nid for nid in nids if low < nid <= self.low]
            above = [nid for nid in nids if nid > self.high]
            self.nids = array("q", below) + self.nids + array("q", above)
            self.low, self.high = min(self.low, low), max(self.high, high)
        self._cut()

    def _cut(self) -> None:
        if len(self.nids) > CACHED_OF_ROOM:
            older = len(self.nids) - CACHED_OF_ROOM // 2
            self.low = self.nids[older - 1]
            del self.nids[:older]


class OpenGap(NamedTuple):
    """A gap that more may be found in."""

    number: int
    position: Position
    """The event behind it."""
    missing: tuple[EventId, ...]
    """What is named as previous and not here."""


class Pages:
    """A projection: of rooms that are being read, the numbers of their visible events, and their gaps; bounded caches."""

    def __init__(self, db: Database, tail: Tail, memory: MemoryBudget) -> None:
        self._db = db
        self._tail = tail
        self._ranges: Cache[int, CachedRange] = memory.cache("pages", SHARE)
        self._gaps: Remembered[int, tuple[Gap, ...]] = Remembered(memory.cache("gaps", SHARE))

    async def page(self, room_nid: int, wanted: Wanted) -> list[int]:
        """Numbers of visible events of the room. At most one query where the room's history has no gaps; else one for each
        of the segments between them, up to the number of events that are wanted, with a bound.
        """
        # A place in a gap stands for it even where nothing was found in it.
        every = any(OLDEST < each < 0 for each in wanted[:2])
        gaps = await self._gaps_of(room_nid, every=every)
        if not gaps:
            return await self._live(room_nid, wanted)
        position, stop, backwards, limit = wanted
        after, upto = (stop, position) if backwards else (position, stop)
        rest = segments(gaps, after, upto)
        found: list[int] = []
        for low, high, live in reversed(rest) if backwards else rest:
            left = limit - len(found)
            if left <= 0:
                break
            part = Wanted(high, low, True, left) if backwards else Wanted(low, high, False, left)
            if live:
                found += await self._live(room_nid, part)
            else:
                async with self._db.read() as tx:
                    found += await _read(tx, room_nid, part)
        return found

    async def open_gaps(self, room_nid: int, after: Position, upto: Position) -> list[OpenGap]:
        """Gaps between two places that more may be found in, the newest first. No query where the room has no gaps."""
        every = await self._gaps_of(room_nid, every=True)
        gaps = [gap for gap in every if is_between(every, gap, after, upto)]
        if not gaps:
            return []
        async with self._db.read() as tx:
            rows = await tx.all(
                """
                SELECT g.gap, g.position, array_agg(b.event_id) FROM gaps g
                JOIN backward_extremities b ON b.gap = g.gap AND b.room_nid = g.room_nid
                WHERE g.gap = ANY(%(gaps)s::bigint[]) GROUP BY g.gap, g.position ORDER BY g.position DESC
                """,
                gaps=[gap.number for gap in gaps],
            )
        return [OpenGap(gap, position, tuple(sorted(ids)[:MAX_MISSING])) for gap, position, ids in rows]

    async def _gaps_of(self, room_nid: int, *, every: bool = False) -> Sequence[Gap]:
        """By position; those that something was found in, or all."""
        known = self._gaps.get(room_nid)
        if known is None:
            version = self._gaps.version
            async with self._db.read() as tx:
                rows = await tx.all(
                    """
                    SELECT gap, position, found FROM gaps WHERE room_nid = %(room)s
                    ORDER BY found > 0 DESC, position DESC LIMIT %(limit)s
                    """,
                    room=room_nid,
                    limit=MAX_GAPS,
                )
            known = tuple(sorted((Gap(*row) for row in rows), key=lambda gap: gap.position))
            self._gaps.add(room_nid, known, version, RANGE_BYTES + GAP_BYTES * len(known))
        return known if every else [gap for gap in known if gap.found]

    async def _live(self, room_nid: int, wanted: Wanted) -> list[int]:
        cached = self._ranges.get(room_nid)
        if cached is not None:
            known = cached.page(wanted)
            if known is not None:
                return known
        else:
            cached = CachedRange()
            self._ranges.put(room_nid, cached, cached.size)
        upto, came = self._tail.position, cached.came
        async with self._db.read() as tx:
            nids = await _read(tx, room_nid, wanted)
        if self._ranges.get(room_nid) is cached:
            _learn(cached, wanted, nids, upto, grown=cached.came != came)
            self._ranges.resize(room_nid, cached.size)
        return nids

    # --- the projection ------------------------------------------------------------------------------------------

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._apply, BackfillEntry: self._apply_older}

    def reset(self) -> None:
        self._ranges.clear()
        self._gaps.reset()

    def _apply_older(self, _: Position, entry: BackfillEntry) -> None:
        self._gaps.changed(entry.room_nid)
        if any(row.persisted.redaction is not None for _, row in entry.rows):
            self._ranges.pop(entry.room_nid)  # a redaction that waited for what was found is shown now

    def _apply(self, position: Position, entry: EventEntry) -> None:
        persisted = entry.persisted
        if entry.opens_gap:
            self._gaps.changed(persisted.room_nid)
        cached = self._ranges.get(persisted.room_nid)
        if cached is None:
            return
        if persisted.redaction is not None:  # it came before this event, and was not shown until now
            self._ranges.pop(persisted.room_nid)
            return
        cached.came += 1
        if not persisted.hidden:
            cached.append(position)
            self._ranges.resize(persisted.room_nid, cached.size)


def _learn(cached: CachedRange, wanted: Wanted, nids: list[int], upto: Position, *, grown: bool) -> None:
    """What a page that was read tells. `upto`: the log was seen up to there before; `grown`: events have come since."""
    full = 0 < len(nids) == wanted.limit
    if wanted.backwards:
        low, high = nids[-1] - 1 if full else wanted.stop, wanted.position
    else:
        low, high = wanted.position, nids[-1] if full else wanted.stop
    if high >= upto:  # what is newer comes by the log, or has come
        high = upto if grown or low >= upto else NEWEST
    cached.learn(sorted(nid for nid in nids if nid <= upto), low, high)


async def _read(tx: Tx, room_nid: int, wanted: Wanted) -> list[int]:
    if wanted.backwards:
        return await tx.column(
            """
            SELECT event_nid FROM events
            WHERE room_nid = %(room)s AND event_nid <= %(position)s AND event_nid > %(stop)s AND flags = 0
            ORDER BY event_nid DESC LIMIT %(limit)s
            """,
            room=room_nid,
            position=wanted.position,
            stop=wanted.stop,
            limit=wanted.limit,
        )
    return await tx.column(
        """
        SELECT event_nid FROM events
        WHERE room_nid = %(room)s AND event_nid > %(position)s AND event_nid <= %(stop)s AND flags = 0
        ORDER BY event_nid LIMIT %(limit)s
        """,
        room=room_nid,
        position=wanted.position,
        stop=wanted.stop,
        limit=wanted.limit,
    )
