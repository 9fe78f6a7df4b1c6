"""SQL of relations."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Tx

MAX_DEPTH = 3


class Wanted(NamedTuple):
    """Which children of an event are asked for."""

    parent_id: str
    room_nid: int
    rel_type: str | None
    event_type: str | None
    depth: int
    after: Position
    upto: Position
    backwards: bool
    limit: int


class WantedThreads(NamedTuple):
    """Which threads of a room are asked for."""

    room_nid: int
    upto: Position
    participant_nid: int
    """Only threads that this user has begun or replied in; 0: all."""
    ignored: list[int]
    """Replies of these users do not count."""
    limit: int


async def find_threads(tx: Tx, wanted: WantedThreads) -> list[tuple[int, int]]:
    """(root's event_nid, newest reply's), newest first: replies that have none after them in their thread."""
    return await tx.all(
        """
        SELECT root.event_nid, r.event_nid
        FROM relations r JOIN events root ON root.event_id = r.parent_id AND root.moved_to IS NULL AND root.room_nid = r.room_nid
        WHERE r.room_nid = %(room)s AND r.rel_type = 'm.thread' AND r.event_nid <= %(upto)s
          AND NOT r.sender_nid = ANY(%(ignored)s::bigint[])
          AND NOT EXISTS (SELECT 1 FROM relations later
                          WHERE later.parent_id = r.parent_id AND later.rel_type = 'm.thread'
                            AND later.room_nid = r.room_nid AND later.event_nid > r.event_nid
                            AND NOT later.sender_nid = ANY(%(ignored)s::bigint[]))
          AND (%(user)s::bigint = 0 OR root.sender_nid = %(user)s
               OR EXISTS (SELECT 1 FROM relations own
                          WHERE own.parent_id = r.parent_id AND own.rel_type = 'm.thread'
                            AND own.room_nid = r.room_nid AND own.sender_nid = %(user)s))
        ORDER BY r.event_nid DESC LIMIT %(limit)s
        """,
        room=wanted.room_nid,
        upto=wanted.upto,
        ignored=wanted.ignored,
        user=wanted.participant_nid,
        limit=wanted.limit,
    )


async def find_children(tx: Tx, wanted: Wanted) -> list[int]:
    """Numbers of the events that relate to one, `depth` relations deep, in (after, upto]; newest first if backwards."""
    return await tx.column(
        """
        WITH RECURSIVE tree AS (
            SELECT event_nid, rel_type, type, 1 AS depth FROM relations
            WHERE parent_id = %(parent)s AND room_nid = %(room)s
            UNION
            SELECT r.event_nid, r.rel_type, r.type, t.depth + 1
            FROM tree t JOIN events e ON e.event_nid = t.event_nid
                        JOIN relations r ON r.parent_id = e.event_id AND r.room_nid = %(room)s
            WHERE t.depth < %(depth)s
        )
        SELECT DISTINCT event_nid, CASE WHEN %(backwards)s THEN -event_nid ELSE event_nid END AS place FROM tree
        WHERE event_nid > %(after)s AND event_nid <= %(upto)s
          AND (%(rel_type)s::text = '' OR rel_type = %(rel_type)s) AND (%(type)s::text = '' OR type = %(type)s)
        ORDER BY place LIMIT %(limit)s
        """,
        parent=wanted.parent_id,
        room=wanted.room_nid,
        depth=wanted.depth,
        after=wanted.after,
        upto=wanted.upto,
        backwards=wanted.backwards,
        rel_type=wanted.rel_type or "",
        type=wanted.event_type or "",
        limit=wanted.limit,
    )


async def find_related(  # noqa: PLR0917  # one value each, called in one place
    tx: Tx, parent_id: str, room_nid: int, rel_types: list[str] | None, after: Position, limit: int
) -> list[int]:
    """Numbers of at most `limit` events that relate to one directly, in the order in which they came. None: in any way."""
    return await tx.column(
        """
        SELECT event_nid FROM relations
        WHERE parent_id = %(parent)s AND room_nid = %(room)s AND event_nid > %(after)s
              AND (%(rel_types)s::text[] IS NULL OR rel_type = ANY(%(rel_types)s))
        ORDER BY event_nid LIMIT %(limit)s
        """,
        parent=parent_id,
        room=room_nid,
        rel_types=rel_types,
        after=after,
        limit=limit,
    )
