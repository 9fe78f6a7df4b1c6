"""After a restore from a backup the log goes on far ahead of where it was.

Positions that were given out after the backup was made are in the tokens of clients, and perhaps of application services
and other servers. Given out again they would mean something else, and a client would silently miss what is written there.
So the log jumps over them, and a token from the part cut off counts as the last position the backup knew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log import store
from homeserver.log.entries import Position
from homeserver.storage.database import Database

JUMP = 1 << 36
"""Positions skipped: years of writing, and 2^27 restores are left."""


class Break(NamedTuple):
    """Positions in (after, upto] were cut off."""

    after: Position
    upto: Position


class Breaks:
    """All of them, in order. Few: one per restore."""

    def __init__(self, breaks: Sequence[Break] = ()) -> None:
        self._breaks = sorted(breaks)

    def lost(self, position: Position) -> Position | None:
        """What a position counts as that was given out before a restore, and lost by it; None: it is good."""
        index = bisect_left(self._breaks, (position, 0)) - 1
        if index < 0:
            return None
        found = self._breaks[index]
        return found.after if position < found.upto else None


async def break_off(db: Database) -> Break:
    """Jump ahead. No process may be appending to what was there before the restore."""
    async with db.transaction() as tx:
        async with tx.pipeline() as batch:
            locked = store.lock_head(batch)
        assert locked.result is not None
        made = Break(locked.result[0], locked.result[0] + JUMP)
        async with tx.pipeline(commit=True) as batch:
            store.insert_break(batch, made.after, made.upto)
            store.empty_feed(batch)
            store.advance_head(batch, made.upto)
    return made
