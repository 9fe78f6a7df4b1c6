"""SQL of receipts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from homeserver.log.entries import Position
from homeserver.receipts.types import ReceiptEntry
from homeserver.storage.tx import Later, Pipeline, Tx

ROWS_AT_ONCE = 2_000
"""Receipts that are read in one turn of the event loop."""
Key = tuple[int, int, int, str]
"""(room_nid, user_nid, type, thread): of which there is one receipt."""


class Row(NamedTuple):
    """One receipt, as clients see it."""

    room_nid: int
    user_nid: int
    user_id: str
    type: int
    thread: str
    event_id: str
    ts_ms: int


def upsert(batch: Pipeline, rows: Sequence[tuple[Position, ReceiptEntry]]) -> None:
    """Keys (room, user, type, thread) must be distinct."""
    batch.execute(
        """
        INSERT INTO receipts (room_nid, user_nid, position, event_nid, ts_ms, type, thread, event_id)
        SELECT * FROM unnest(%(rooms)s::bigint[], %(users)s::bigint[], %(positions)s::bigint[], %(events)s::bigint[],
                             %(ts)s::bigint[], %(types)s::smallint[], %(threads)s::text[], %(ids)s::text[])
        ON CONFLICT (room_nid, user_nid, type, thread) DO UPDATE
            SET position = excluded.position, event_nid = excluded.event_nid, ts_ms = excluded.ts_ms,
                event_id = excluded.event_id
            WHERE receipts.event_nid < excluded.event_nid
        """,
        rooms=[e.room_nid for _, e in rows],
        users=[e.user_nid for _, e in rows],
        positions=[position for position, _ in rows],
        events=[e.event_nid for _, e in rows],
        ts=[e.ts_ms for _, e in rows],
        types=[e.type for _, e in rows],
        threads=[e.thread for _, e in rows],
        ids=[e.event_id for _, e in rows],
    )


def find_events(batch: Pipeline, keys: Sequence[Key]) -> Later[list[tuple[int, int, int, str, int]]]:
    """(room_nid, user_nid, type, thread, event_nid) of those receipts that there are."""
    return batch.all(
        """
        SELECT room_nid, user_nid, type, thread, event_nid FROM receipts
        WHERE (room_nid, user_nid, type, thread) IN (
            SELECT * FROM unnest(%(rooms)s::bigint[], %(users)s::bigint[], %(types)s::smallint[], %(threads)s::text[]))
        """,
        rooms=[key[0] for key in keys],
        users=[key[1] for key in keys],
        types=[key[2] for key in keys],
        threads=[key[3] for key in keys],
    )


async def find_own(tx: Tx, room_nid: int, user_nid: int) -> list[tuple[int, str, int]]:
    """(type, thread, event_nid) of a user's receipts in a room."""
    return await tx.all(
        "SELECT type, thread, event_nid FROM receipts WHERE room_nid = %(room)s AND user_nid = %(user)s",
        room=room_nid,
        user=user_nid,
    )


def find_changes(
    batch: Pipeline, room_nids: Collection[int], reader_nid: int, since: Position, upto: Position
) -> Later[Iterator[list[tuple[Any, ...]]]]:
    """Receipts that have changed in (since, upto] and the reader may see: all public ones, their own private ones. Columns of
    `Row`, some at a time.
    """
    return batch.pieces(
        ROWS_AT_ONCE,
        """
        SELECT r.room_nid, r.user_nid, u.user_id, r.type, r.thread, r.event_id, r.ts_ms
        FROM receipts r JOIN users u USING (user_nid)
        WHERE r.room_nid = ANY(%(rooms)s::bigint[]) AND r.position > %(since)s AND r.position <= %(upto)s
              AND (r.type = 1 OR r.user_nid = %(reader)s)
        ORDER BY r.position
        """,
        rooms=list(room_nids),
        reader=reader_nid,
        since=since,
        upto=upto,
    )
