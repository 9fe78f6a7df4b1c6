"""Pages of a room: the numbers of its visible events before or after a position, from memory where the room is being read.

Of a room that is read, a range is kept: the numbers of all visible events in (low, high]. What is written stays in its
place, so a range does not age; one that reaches the end of the log grows with the room. Events of before this server was
in the room have negative numbers, which may be given out at any time: they are always asked for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from homeserver.graph.entry import EventEntry
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Tail
from homeserver.runtime.cache import Cache, MemoryBudget
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

NEWEST: Position = 2**62
OLDEST: Position = -(2**62)
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


class Pages:
    """A projection: of rooms that are being read, the numbers of their visible events; a bounded cache."""

    def __init__(self, db: Database, tail: Tail, memory: MemoryBudget) -> None:
        self._db = db
        self._tail = tail
        self._ranges: Cache[int, CachedRange] = memory.cache("pages", SHARE)

    async def page(self, room_nid: int, wanted: Wanted) -> list[int]:
        """Numbers of visible events of the room. At most one query."""
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
        return {EventEntry: self._apply}

    def reset(self) -> None:
        self._ranges.clear()

    def _apply(self, position: Position, entry: EventEntry) -> None:
        persisted = entry.persisted
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
