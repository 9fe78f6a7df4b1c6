"""SQL of gaps in the history of rooms, and of outliers that become part of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.graph.gaps import first_number
from homeserver.log.entries import Position
from homeserver.matrix.ids import EventId
from homeserver.storage.tx import Later, Pipeline, Tx


class Opened(NamedTuple):
    """A gap before an event."""

    room_nid: int
    position: Position
    missing: Sequence[EventId]


class Placed(NamedTuple):
    """Where an outlier stands in the chain cover."""

    event_nid: int
    chain: int
    sequence: int
    links: bytes | None


def open_gaps(batch: Pipeline, opened: Sequence[Opened]) -> None:
    """Make a gap before each of these events."""
    batch.execute(
        """
        WITH row AS (SELECT * FROM unnest(%(rooms)s::bigint[], %(positions)s::bigint[]) AS row (room, position)),
             made AS (INSERT INTO gaps (room_nid, position) SELECT room, position FROM row RETURNING gap, position)
        INSERT INTO backward_extremities (room_nid, event_id, gap)
        SELECT named.room, named.id, made.gap
        FROM unnest(%(of)s::bigint[], %(at)s::bigint[], %(ids)s::text[]) AS named (room, position, id)
             JOIN made USING (position)
        ON CONFLICT DO NOTHING
        """,
        rooms=[each.room_nid for each in opened],
        positions=[each.position for each in opened],
        of=[each.room_nid for each in opened for _ in each.missing],
        at=[each.position for each in opened for _ in each.missing],
        ids=[event_id for each in opened for event_id in each.missing],
    )


def extend_gap(batch: Pipeline, room_nid: int, gap: int, missing: Collection[EventId]) -> None:
    """Events that are named as previous by what was found in a gap, and are not here."""
    batch.execute(
        """
        INSERT INTO backward_extremities (room_nid, event_id, gap)
        SELECT %(room)s, id, %(gap)s FROM unnest(%(ids)s::text[]) AS id ON CONFLICT DO NOTHING
        """,
        room=room_nid,
        gap=gap,
        ids=list(missing),
    )


def fill(batch: Pipeline, room_nids: Sequence[int], event_ids: Sequence[EventId]) -> None:
    """These events are here now."""
    batch.execute(
        """
        DELETE FROM backward_extremities b USING unnest(%(rooms)s::bigint[], %(ids)s::text[]) AS row (room, id)
        WHERE b.room_nid = row.room AND b.event_id = row.id
        """,
        rooms=list(room_nids),
        ids=list(event_ids),
    )


def move(batch: Pipeline, outliers: Sequence[int], to: Sequence[int]) -> None:
    """Outliers get other numbers, at which they are whole. The place in the chain cover goes with them."""
    batch.execute(
        """
        UPDATE events SET moved_to = row.target, chain = NULL, sequence = NULL, links = NULL
        FROM unnest(%(outliers)s::bigint[], %(to)s::bigint[]) AS row (nid, target) WHERE event_nid = row.nid
        """,
        outliers=list(outliers),
        to=list(to),
    )


def find_placed(batch: Pipeline, nids: Collection[int]) -> Later[list[Placed]]:
    """Those that have a place."""
    return batch.rows(
        Placed,
        """
        SELECT event_nid, coalesce(chain, event_nid), sequence, links FROM events
        WHERE event_nid = ANY(%(nids)s::bigint[]) AND sequence IS NOT NULL
        """,
        nids=list(nids),
    )


def find_missing(
    batch: Pipeline, room_nid: int, event_ids: Collection[EventId]
) -> Later[list[tuple[EventId, int, bool]]]:
    """(event, gap, whether that is the gap before a join of ours through another server) of those that events of the room name as
    previous and that are not here.
    """
    return batch.all(
        """
        SELECT b.event_id, b.gap,
               EXISTS (SELECT FROM gaps g JOIN room_gaps j USING (room_nid, position) WHERE g.gap = b.gap)
        FROM backward_extremities b WHERE b.room_nid = %(room)s AND b.event_id = ANY(%(ids)s::text[])
        """,
        room=room_nid,
        ids=list(event_ids),
    )


async def find_below_joins(tx: Tx, room_nid: int, limit: int) -> list[tuple[Position, EventId]]:
    """(join of ours through another server, event before it that is not here), the latest joins first."""
    return await tx.all(
        """
        SELECT g.position, b.event_id
        FROM room_gaps j JOIN gaps g USING (room_nid, position) JOIN backward_extremities b USING (room_nid, gap)
        WHERE j.room_nid = %(room)s ORDER BY g.position DESC, b.event_id LIMIT %(limit)s
        """,
        room=room_nid,
        limit=limit,
    )


async def take_numbers(tx: Tx, gap: int, count: int) -> list[int]:
    """So many numbers of a gap, ascending, below all that were given out before."""
    found = await tx.value(
        "UPDATE gaps SET found = found + %(count)s WHERE gap = %(gap)s RETURNING found", gap=gap, count=count
    )
    lowest = first_number(gap) + 1 - int(found)
    return list(range(lowest, lowest + count))
