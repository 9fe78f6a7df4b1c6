"""The newest of what matches, as far as it is ranked and counted.

The index cannot be read from its end, and a common word has matches without number. So the log is gone through from its end
in blocks that the index knows (`words.BLOCKS`): small ones where there are many matches, larger ones where there are few, each
with a bound on what is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from homeserver.log.entries import Position
from homeserver.matrix.cutting import Term
from homeserver.matrix.errors import LimitExceeded
from homeserver.search import store
from homeserver.search.store import Match, Wanted
from homeserver.search.words import BLOCKS, query, query_in
from homeserver.storage.database import Database

MOST: Final = 500
"""Matches that are ranked and counted together."""
READ: Final = 10_000
"""Entries read of one block, in whichever room; more than the smallest block can have."""
FEW: Final = READ // 8
"""With fewer the next block is a larger one."""
FIRST: Final = 0
"""The size of the first block."""
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
        async with self._db.read() as tx:
            first = await store.find_first(tx)
        if first is None or not asked.rooms or not asked.kinds:
            return Window([], before, True)
        floor = first if since is None else max(first, since)
        found: list[Match] = []
        size, at = FIRST, before
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SECONDS
        async with self._db.snapshot() as tx:
            async with tx.pipeline() as batch:
                store.look_by_index(batch, STATEMENT_MS)
            while at > floor and len(found) < MOST and loop.time() < deadline:
                start = max(_start(size, at), floor)
                looked = await store.find_matches(tx, _wanted(asked, size, start, at))
                if looked.read >= READ and size > 0:
                    size -= 1
                    continue
                found += looked.matches
                at = start
                if looked.read < FEW:
                    size = min(size + 1, len(BLOCKS))
        found.sort(key=lambda match: -match.event_nid)
        if len(found) > MOST:
            found, at = found[:MOST], found[MOST - 1].event_nid
        return Window(found, at, at <= first)


def _start(size: int, before: Position) -> Position:
    """Where the block begins that ends at a position; beyond the largest size, everything is one."""
    if size == len(BLOCKS):
        return -(2**62)
    bits = BLOCKS[size][1]
    return (before - 1) >> bits << bits


def _wanted(asked: Asked, size: int, since: Position, before: Position) -> Wanted:
    block = (size, before - 1) if size < len(BLOCKS) else None
    marks = asked.rooms if len(asked.rooms) <= MAX_MARKS else ()
    return Wanted(
        query_in(asked.term, marks, block),
        query(asked.term),
        asked.kinds,
        list(asked.rooms),
        asked.senders,
        asked.not_senders,
        since,
        before,
        READ,
    )
