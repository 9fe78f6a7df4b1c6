"""SQL of kicks and bans that redact what their target has said."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.graph.refs import OUTLIER, REJECTED, SOFT_FAILED
from homeserver.log.entries import Position
from homeserver.storage.tx import Tx


class Range(NamedTuple):
    """Events of a room in (after, before)."""

    room_nid: int
    after: Position
    before: Position


class Looked(NamedTuple):
    """What was found in the newest events of a range."""

    found: list[int]
    oldest: Position | None
    """The oldest that was looked at; None: that was all of them."""


async def look_at(tx: Tx, where: Range, sender_nid: int, ended: Position, limit: int) -> Looked:
    """Those of the newest events in a range that a sender's stay has, which ended at `ended`: what came later if it soft failed.
    Those that are redacted already are left out.
    """
    rows = await tx.all(
        """
        SELECT event_nid,
               sender_nid = %(sender)s AND redacted_by IS NULL AND flags & %(none)s::smallint = 0
               AND (event_nid < %(ended)s OR flags & %(failed)s::smallint <> 0)
        FROM events WHERE room_nid = %(room)s AND event_nid > %(after)s AND event_nid < %(before)s
        ORDER BY event_nid DESC LIMIT %(limit)s
        """,
        room=where.room_nid,
        after=where.after,
        before=where.before,
        sender=sender_nid,
        ended=ended,
        none=REJECTED | OUTLIER,
        failed=SOFT_FAILED,
        limit=limit,
    )
    return Looked([nid for nid, wanted in rows if wanted], rows[-1][0] if len(rows) == limit else None)
