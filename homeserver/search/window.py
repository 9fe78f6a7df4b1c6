"""The newest of what matches, as far as it is ranked and counted.

Where a part of the newest entries match, they are gone through one by one: nothing is as fast. That tells how many to expect
farther back, too. The index cannot be read from its end, and a common word has matches without number; so the rest of the log is
gone through from its end in blocks that the index knows (`words.BLOCKS`), as large as what is expected allows, each with a bound on
what is read. Whoever has enough is done sooner where more would be much work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from homeserver.log.entries import Position
from homeserver.matrix.cutting import Term
from homeserver.matrix.errors import LimitExceeded
from homeserver.search import matches_store
from homeserver.search.matches_store import Known, Match, Part, Scanned, Wanted
from homeserver.search.words import BLOCKS, query, query_apart, query_begun, query_in
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

MOST: Final = 500
"""Matches that are ranked and counted together."""
ENOUGH: Final = 100
"""With as many a search is done that has made some `EFFORT`."""
EFFORT: Final = 6_000
"""Entries read by way of the index; some 20 ms. Of a block, `PASSED` positions cost as much as one."""
PASSED: Final = 32
FIRST: Final = 4_096
"""Entries that are gone through one by one."""
SCANNED: Final = 32_768
"""Entries that are gone through so at a time, where that is expected to find all."""
READ: Final = 10_000
"""Entries read of one block, in whichever room; more than the smallest block can have."""
EXPECTED: Final = 7_000
"""Entries to read that a block is chosen for at most."""
LOOKS: Final = 4
"""Blocks that are rather looked at than a larger one, where they are expected to have all that is ranked."""
LISTED: Final = 40
"""Entries that the index lists in the time that reading one takes: it lists all with words of a beginning, for each look."""
MAX_MARKS: Final = 16
"""Rooms that the index is asked for by name; with more, it is slower than looking at the room of each entry."""
STATEMENT_MS: Final = 2_000
"""That one statement may take."""
SECONDS: Final = 2.0
"""After which a search ends with what it has found."""
AT_ONCE: Final = 3
"""Searches of a process that have a connection to the database; others wait for their turn."""
MAX_WAITING: Final = 100


class Asked(NamedTuple):
    """What is looked for, and where."""

    term: Term
    kinds: Sequence[int]
    rooms: Collection[int]
    senders: Sequence[int] | None
    not_senders: Sequence[int]


class Window(NamedTuple):
    """The matches of [since, before), the newest first."""

    matches: list[Match]
    since: Position
    whole: bool
    """Nothing that matches is older."""


class Windows:
    """Reads the index; so many at a time that others find connections. Keeps nothing of it in memory."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def newest(self, asked: Asked, before: Position, since: Position | None = None) -> Window:
        """The newest `MOST` matches before a position, or all from `since` on.

        Raises `psycopg.errors.QueryCanceled` where one step takes too long, `LimitExceeded` where too many wait for their turn.
        """
        if self._waiting >= MAX_WAITING:
            raise LimitExceeded(round(SECONDS * 1000))
        self._waiting += 1
        try:
            async with self._turns:
                return await self._newest(asked, before, since)
        finally:
            self._waiting -= 1

    async def _newest(self, asked: Asked, before: Position, since: Position | None) -> Window:
        if not asked.rooms or not asked.kinds:
            return Window([], before, True)
        async with self._db.snapshot() as tx:
            async with tx.pipeline() as batch:
                matches_store.prepare(batch, STATEMENT_MS)
                oldest = matches_store.find_first(batch)
            first = oldest.result[0] if oldest.result is not None else None
            if first is None:
                return Window([], before, True)
            floor = first if since is None else max(first, since)
            walk = _Walk(asked, before, floor, some=since is None)
            await walk.go(tx)
        found, at = walk.found, walk.at
        found.sort(key=lambda match: -match.event_nid)
        if len(found) > MOST:
            found, at = found[:MOST], found[MOST - 1].event_nid
        return Window(found, at, at <= first)


class _Walk:
    """One search goes back in the log, from a position to the `floor`; `some`: not as far, with enough in hand."""

    def __init__(self, asked: Asked, before: Position, floor: Position, *, some: bool) -> None:
        self._asked = asked
        self._before = before
        self._floor = floor
        self._enough = min(ENOUGH, MOST) if some else MOST
        self._by_room = len(asked.rooms) <= MAX_MARKS
        self._effort = 0
        self._read = 0
        """Entries that the index would have found, or has found, in what was gone through."""
        self.at = before
        self.found: list[Match] = []
        self._wanted = Wanted(
            query(asked.term), asked.kinds, list(asked.rooms), asked.senders, asked.not_senders
        )

    async def go(self, tx: Tx) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SECONDS
        words = await self._scan(tx)
        marks = self._asked.rooms if self._by_room else ()
        largest = len(BLOCKS)
        while not self._done and loop.time() < deadline:
            size = min(self._size(), largest)
            start = max(_start(size, self.at), self._floor)
            block = (size, self.at - 1) if size < len(BLOCKS) else None
            looked = await matches_store.find_matches(
                tx, self._wanted, query_in(words, marks, block), Part(start, self.at, READ)
            )
            if looked.read >= READ and size > 0:
                largest = size - 1
                continue
            largest = min(largest + 1, len(BLOCKS))
            self.found += looked.matches
            self._read += looked.read
            self._effort += looked.read + (self.at - start) // PASSED
            self.at = start

    @property
    def _done(self) -> bool:
        if self.at <= self._floor or len(self.found) >= MOST:
            return True
        return len(self.found) >= self._enough and self._effort >= EFFORT

    async def _scan(self, tx: Tx) -> str | None:
        """Go through the newest entries, and on while matches are close to each other. Returns the words that the index is to be
        asked for; None: it is asked for the rooms alone.
        """
        term = self._asked.term
        apart, whole = query_apart(term, beginnings=True), query_apart(term, beginnings=False)
        seen = await self._scan_some(tx, Known(apart, whole, query_begun(term), self._by_room), FIRST)
        first, read = max(self._before - self.at, 1), seen.read
        while not self._done and self.found:
            expected = (MOST - len(self.found)) * read // len(self.found) + FIRST // 4
            if expected > SCANNED:
                break
            read += (await self._scan_some(tx, None, expected)).read
        # Beginnings are asked for, or left to be looked for in each entry: what costs less if everything was as this.
        left, gone = self._expected / first, (self._before - self.at) / first
        looks = max(LOOKS, seen.apart * left / EXPECTED)
        can_leave = whole is not None or self._by_room
        if can_leave and seen.whole * left < seen.apart * left + looks * self._listed(seen.begun / first):
            self._read = round(seen.whole * gone)
            return whole
        self._read = round(seen.apart * gone)
        return apart

    def _listed(self, share: float) -> float:
        """Entries that could be read while the index lists such a share of all positions."""
        return share * (self.at - self._floor) / LISTED

    @property
    def _expected(self) -> float:
        """Positions from here on that have all that is ranked, by what was found so far."""
        gone = self._before - self.at
        return min(self.at - self._floor, (MOST - len(self.found)) * gone / max(len(self.found), 0.1))

    async def _scan_some(self, tx: Tx, known: Known | None, limit: int) -> Scanned:
        seen = await matches_store.scan(tx, self._wanted, known, Part(self._floor, self.at, limit))
        self.found += seen.matches
        self.at = self._floor if seen.read < limit else seen.oldest
        return seen

    def _size(self) -> int:
        """Of the next block: the smallest that a few of are expected to have all, but none that is expected to have too much."""
        gone = max(self._before - self.at, 1)
        expected = self._expected
        size = 0
        while size < len(BLOCKS) and (self._read + 1) / gone * self._span(size + 1) <= EXPECTED:
            size += 1
            if self._span(size) * LOOKS >= expected:
                break
        return size

    def _span(self, size: int) -> Position:
        """Positions that a block of this size has at most."""
        left = self.at - self._floor
        return left if size == len(BLOCKS) else min(left, 1 << BLOCKS[size][1])


def _start(size: int, before: Position) -> Position:
    """Where the block begins that ends at a position; beyond the largest size, everything is one."""
    if size == len(BLOCKS):
        return -(2**62)
    bits = BLOCKS[size][1]
    return (before - 1) >> bits << bits
