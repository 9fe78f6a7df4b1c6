"""SQL of what a user is told of all their rooms together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Tx


class Span(NamedTuple):
    """A part of a room."""

    room_nid: int
    upto: Position
    """The last event of it."""


async def find_events_after(
    tx: Tx, spans: Sequence[Span], since: Position, limit: int
) -> list[tuple[Position, int]]:
    """(event_nid, room_nid) of the first events after `since` in these rooms, in the order of the log."""
    return await tx.all(
        """
        SELECT found.event_nid, span.room_nid
        FROM unnest(%(rooms)s::bigint[], %(ends)s::bigint[]) AS span (room_nid, upto),
             LATERAL (SELECT event_nid FROM events
                      WHERE events.room_nid = span.room_nid AND event_nid > %(since)s AND event_nid <= span.upto
                      ORDER BY event_nid LIMIT %(limit)s) found
        ORDER BY found.event_nid LIMIT %(limit)s
        """,
        rooms=[span.room_nid for span in spans],
        ends=[span.upto for span in spans],
        since=since,
        limit=limit,
    )
