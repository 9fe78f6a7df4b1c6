"""SQL of what rooms tell: one query for all rooms of a request."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline, Tx

ROWS_AT_ONCE = 5_000
"""Changes of state that are read in one turn of the event loop."""


class Span(NamedTuple):
    """A part of a room."""

    room_nid: int
    upto: Position
    """The last event of it."""


class Newest(NamedTuple):
    """The newest events of a room between two positions."""

    since: Position
    """After which they are complete: where history is missing (`graph.gaps`), or where the room was taken from another server, if
    that was between the positions."""
    events: list[tuple[int, int]]
    """(number, bytes), oldest first."""


async def newest_events(
    tx: Tx, log_slices: Mapping[int, tuple[Position, Position]], limit: int
) -> dict[int, Newest]:
    """room_nid -> its newest events in (since, upto], at most `limit` each."""
    rows = await tx.all(
        """
        SELECT row.room, row.began, e.event_nid, e.size
        FROM (SELECT room, upto, greatest(since, (SELECT max(g.position) - 1 FROM room_gaps g
                                                  WHERE g.room_nid = room AND g.position <= upto),
                                                 (SELECT max(g.position) - 1 FROM gaps g
                                                  WHERE g.room_nid = room AND g.position <= upto)) AS began
              FROM unnest(%(rooms)s::bigint[], %(since)s::bigint[], %(upto)s::bigint[]) AS slice (room, since, upto)) row,
             LATERAL (SELECT event_nid, octet_length(pdu) AS size FROM events
                      WHERE room_nid = row.room AND event_nid > row.began AND event_nid <= row.upto AND flags = 0
                      ORDER BY event_nid DESC LIMIT %(limit)s) e
        ORDER BY row.room, e.event_nid
        """,
        rooms=list(log_slices),
        since=[since for since, _ in log_slices.values()],
        upto=[upto for _, upto in log_slices.values()],
        limit=limit,
    )
    found: dict[int, Newest] = {}
    for room, began, nid, size in rows:
        found.setdefault(room, Newest(began, [])).events.append((nid, size))
    return found


async def rooms_with_gaps(tx: Tx, room_nids: Collection[int], since: Position) -> list[int]:
    """Those of the rooms that were taken from another server after a position."""
    return await tx.column(
        """
        SELECT DISTINCT room_nid FROM room_gaps
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND position > %(since)s
        """,
        rooms=list(room_nids),
        since=since,
    )


def changed_state(
    batch: Pipeline, log_slices: Mapping[int, tuple[Position, Position]]
) -> Later[Iterator[list[tuple[int, int, int]]]]:
    """(room_nid, key, newest state event) in (since, upto], some at a time; those that did not become current state left out."""
    return batch.pieces(
        ROWS_AT_ONCE,
        """
        SELECT row.room, e.key_nid, e.event_nid
        FROM unnest(%(rooms)s::bigint[], %(since)s::bigint[], %(upto)s::bigint[]) AS row (room, since, upto),
             LATERAL (SELECT DISTINCT ON (key_nid) key_nid, event_nid FROM events
                      WHERE room_nid = row.room AND key_nid IS NOT NULL AND event_nid > row.since
                            AND event_nid <= row.upto AND flags = 0
                            AND NOT EXISTS (SELECT 1 FROM state_resets r
                                            WHERE r.room_nid = row.room AND r.key_nid = events.key_nid
                                                  AND r.position = events.event_nid)
                      ORDER BY key_nid, event_nid DESC) e
        """,
        rooms=list(log_slices),
        since=[since for since, _ in log_slices.values()],
        upto=[upto for _, upto in log_slices.values()],
    )


async def find_resets(
    tx: Tx, room_nids: list[int], since: Position, upto: Position
) -> list[tuple[int, Position, int, int]]:
    """(room_nid, position, key_nid, event_nid or 0): where current state is not what the last event says, oldest first."""
    return await tx.all(
        """
        SELECT room_nid, position, key_nid, event_nid FROM state_resets
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND position > %(since)s AND position <= %(upto)s
        ORDER BY position, changed
        """,
        rooms=room_nids,
        since=since,
        upto=upto,
    )


async def memberships_at(tx: Tx, user_nid: int, room_nids: Collection[int], at: Position) -> dict[int, int]:
    """room_nid -> the user's membership when the log was at `at`; rooms never entered are absent."""
    rows = await tx.all(
        """
        SELECT DISTINCT ON (room_nid) room_nid, membership FROM memberships
        WHERE user_nid = %(user)s AND room_nid = ANY(%(rooms)s::bigint[]) AND event_nid <= %(at)s
        ORDER BY room_nid, event_nid DESC
        """,
        user=user_nid,
        rooms=list(room_nids),
        at=at,
    )
    return dict(rows)


async def rooms_joined(
    tx: Tx, user_nid: int, room_nids: Collection[int], since: Position, upto: Position
) -> list[int]:
    """Those of the rooms that the user joined in (since, upto]."""
    return await tx.column(
        """
        SELECT DISTINCT room_nid FROM memberships
        WHERE user_nid = %(user)s AND room_nid = ANY(%(rooms)s::bigint[]) AND membership = 1
          AND event_nid > %(since)s AND event_nid <= %(upto)s
        """,
        user=user_nid,
        rooms=list(room_nids),
        since=since,
        upto=upto,
    )


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


async def find_stripped_states(tx: Tx, event_nids: Collection[int]) -> list[tuple[int, bytes]]:
    """(event_nid of an invite or knock, JSON list of what the other server has told of the room)."""
    return await tx.all(
        "SELECT event_nid, events FROM stripped_states WHERE event_nid = ANY(%(nids)s::bigint[])",
        nids=list(event_nids),
    )
