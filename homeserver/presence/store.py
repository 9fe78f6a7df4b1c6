"""SQL of presence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.presence.types import Latest
from homeserver.storage.tx import Later, Pipeline, Tx


class Row(NamedTuple):
    """What is known of a user."""

    user_nid: int
    user_id: str
    presence: str
    status_msg: str | None
    last_active_ms: int


def upsert(batch: Pipeline, rows: Sequence[Latest]) -> None:
    """One row per user. Activity never goes back in time."""
    batch.execute(
        """
        INSERT INTO presence (user_nid, position, last_active_ms, presence, status_msg)
        SELECT usr, position, active, presence, nullif(status, '')
        FROM unnest(%(users)s::bigint[], %(positions)s::bigint[], %(active)s::bigint[], %(presences)s::text[],
                    %(statuses)s::text[]) AS row (usr, position, active, presence, status)
        ON CONFLICT (user_nid) DO UPDATE
            SET position = excluded.position, presence = excluded.presence, status_msg = excluded.status_msg,
                last_active_ms = greatest(presence.last_active_ms, excluded.last_active_ms)
        """,
        users=[row.entry.user_nid for row in rows],
        positions=[row.position for row in rows],
        active=[row.last_active_ms for row in rows],
        presences=[row.entry.presence for row in rows],
        statuses=[row.entry.status_msg or "" for row in rows],
    )


def note_active(batch: Pipeline, rows: Sequence[tuple[int, int]]) -> None:
    """(user_nid, when they were active, Unix ms) of users whose presence is as it was."""
    batch.execute(
        """
        UPDATE presence SET last_active_ms = active
        FROM unnest(%(users)s::bigint[], %(active)s::bigint[]) AS row (usr, active)
        WHERE user_nid = usr AND last_active_ms < active
        """,
        users=[nid for nid, _ in rows],
        active=[active_ms for _, active_ms in rows],
    )


def find_positions(batch: Pipeline, user_nids: Sequence[int]) -> Later[list[tuple[int, Position]]]:
    """(user_nid, where their presence was written) of those of whom something is known."""
    return batch.all(
        "SELECT user_nid, position FROM presence WHERE user_nid = ANY(%(users)s::bigint[])",
        users=list(user_nids),
    )


async def find_position(tx: Tx, user_nid: int) -> Position:
    """Where a user's presence was written, 0 if nothing is known of them."""
    position = await tx.value("SELECT position FROM presence WHERE user_nid = %(user)s", user=user_nid)
    return int(position or 0)


async def find_present(tx: Tx, limit: int) -> list[tuple[Row, Position]]:
    """Who is not offline, with where that was written; those who came last."""
    rows = await tx.all(
        """
        SELECT p.user_nid, u.user_id, p.presence, p.status_msg, p.last_active_ms, p.position
        FROM presence p JOIN users u USING (user_nid) WHERE p.presence <> 'offline'
        ORDER BY p.position DESC LIMIT %(limit)s
        """,
        limit=limit,
    )
    return [(Row(*row[:5]), row[5]) for row in rows]


async def find_sharing(tx: Tx, user_nid: int, since: Position, upto: Position, limit: int) -> list[Row]:
    """Presence that has changed in (since, upto], of users who are in a room with this one, and their own."""
    return await tx.rows(
        Row,
        """
        SELECT p.user_nid, u.user_id, p.presence, p.status_msg, p.last_active_ms
        FROM presence p JOIN users u USING (user_nid)
        WHERE p.position > %(since)s AND p.position <= %(upto)s
          AND (p.user_nid = %(user)s OR EXISTS (
              SELECT 1 FROM current_state mine JOIN current_state theirs USING (room_nid)
              WHERE mine.user_nid = %(user)s AND mine.membership = 1
                AND theirs.user_nid = p.user_nid AND theirs.membership = 1))
        ORDER BY p.position LIMIT %(limit)s
        """,
        user=user_nid,
        since=since,
        upto=upto,
        limit=limit,
    )


async def find_come_into_sight(
    tx: Tx, user_nid: int, since: Position, upto: Position, limit: int
) -> list[Row]:
    """Presence of users in a room that they or this user came into in (since, upto]."""
    return await tx.rows(
        Row,
        """
        SELECT DISTINCT p.user_nid, u.user_id, p.presence, p.status_msg, p.last_active_ms
        FROM current_state mine JOIN current_state theirs USING (room_nid)
             JOIN presence p ON p.user_nid = theirs.user_nid JOIN users u ON u.user_nid = p.user_nid
        WHERE mine.user_nid = %(user)s AND mine.membership = 1
          AND theirs.user_nid <> mine.user_nid AND theirs.membership = 1
          AND greatest(mine.event_nid, theirs.event_nid) > %(since)s
          AND greatest(mine.event_nid, theirs.event_nid) <= %(upto)s
        LIMIT %(limit)s
        """,
        user=user_nid,
        since=since,
        upto=upto,
        limit=limit,
    )


async def find_many(tx: Tx, user_nids: Sequence[int]) -> list[Row]:
    """What is known of these users; those of whom nothing is known are left out."""
    return await tx.rows(
        Row,
        """
        SELECT p.user_nid, u.user_id, p.presence, p.status_msg, p.last_active_ms
        FROM presence p JOIN users u USING (user_nid) WHERE p.user_nid = ANY(%(users)s)
        """,
        users=list(user_nids),
    )


async def find(tx: Tx, user_nid: int) -> Row | None:
    """What is known of one user."""
    return next(iter(await find_many(tx, [user_nid])), None)


async def share_a_room(tx: Tx, one_nid: int, other_nid: int) -> bool:
    """Whether both are joined to some room."""
    return bool(
        await tx.value(
            """
            SELECT EXISTS (SELECT 1 FROM current_state a JOIN current_state b USING (room_nid)
                           WHERE a.user_nid = %(one)s AND a.membership = 1
                             AND b.user_nid = %(other)s AND b.membership = 1)
            """,
            one=one_nid,
            other=other_nid,
        )
    )
