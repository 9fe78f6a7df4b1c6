"""SQL of sticky events. Times in ms since 1970."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Pipeline, Tx


class StickyRow(NamedTuple):
    """One that is kept."""

    event_nid: int
    room_nid: int
    position: Position
    ends_ms: int
    soft_failed: bool


class Found(NamedTuple):
    """One that is read."""

    event_nid: int
    room_nid: int
    sender_nid: int
    position: Position
    ends_ms: int
    soft_failed: bool
    size: int
    """Bytes as it is stored."""


def insert(batch: Pipeline, rows: Sequence[StickyRow]) -> None:
    """Keep them: with the events, in the same transaction."""
    batch.execute(
        """
        INSERT INTO sticky_events (event_nid, room_nid, position, ends_ms, soft_failed)
        SELECT * FROM unnest(%(nids)s::bigint[], %(rooms)s::bigint[], %(positions)s::bigint[], %(ends)s::bigint[],
                             %(failed)s::boolean[])
        ON CONFLICT (event_nid) DO NOTHING
        """,
        nids=[row.event_nid for row in rows],
        rooms=[row.room_nid for row in rows],
        positions=[row.position for row in rows],
        ends=[row.ends_ms for row in rows],
        failed=[row.soft_failed for row in rows],
    )


def accept(batch: Pipeline, rows: Sequence[tuple[int, Position]], soft_failed: int) -> None:
    """(event_nid, position of the acceptance): events that had soft failed stand after all. `soft_failed`: the flag."""
    nids = [nid for nid, _ in rows]
    batch.execute(
        """
        UPDATE sticky_events AS s SET position = row.position, soft_failed = false
        FROM unnest(%(nids)s::bigint[], %(positions)s::bigint[]) AS row (nid, position)
        WHERE s.event_nid = row.nid AND s.soft_failed
        """,
        nids=nids,
        positions=[position for _, position in rows],
    )
    batch.execute(
        "UPDATE events SET flags = flags & ~%(flag)s::smallint WHERE event_nid = ANY(%(nids)s::bigint[])",
        nids=nids,
        flag=soft_failed,
    )


async def find(tx: Tx, now_ms: int, most: int) -> list[Found]:
    """Those that are sticky still, the newest `most` of them."""
    return await tx.rows(
        Found,
        """
        SELECT s.event_nid, s.room_nid, e.sender_nid, s.position, s.ends_ms, s.soft_failed, length(e.pdu)
        FROM sticky_events s JOIN events e USING (event_nid)
        WHERE s.ends_ms > %(now)s AND e.redacted_by IS NULL
        ORDER BY s.position DESC LIMIT %(most)s
        """,
        now=now_ms,
        most=most,
    )


async def delete_ended(tx: Tx, before_ms: int) -> None:
    """Those that are events like any other."""
    await tx.execute("DELETE FROM sticky_events WHERE ends_ms <= %(before)s", before=before_ms)
