"""SQL of delegated leaves. Times in ms since 1970."""

from __future__ import annotations

from homeserver.calls.types import Leave
from homeserver.storage.tx import Tx


async def insert(tx: Tx, leave: Leave, look_ms: int) -> None:
    """What was delegated for the participant before is replaced."""
    await tx.execute(
        """
        INSERT INTO delegated_leaves (room, identity, delay_id, delay_ms, seen_ms, look_ms)
        VALUES (%(room)s, %(identity)s, %(delay_id)s, %(delay_ms)s, %(seen_ms)s, %(look_ms)s)
        ON CONFLICT (room, identity) DO UPDATE SET delay_id = excluded.delay_id, delay_ms = excluded.delay_ms,
            seen_ms = excluded.seen_ms, look_ms = excluded.look_ms
        """,
        **leave._asdict(),
        look_ms=look_ms,
    )


async def claim_due(tx: Tx, now_ms: int, limits: tuple[int, int], limit: int) -> list[Leave]:
    """Up to `limit` that are to be looked at; the next look at each is a third of its delay later, within `limits`."""
    return await tx.rows(
        Leave,
        """
        UPDATE delegated_leaves
        SET look_ms = %(now)s::bigint + least(greatest(delay_ms / 3, %(least)s), %(most)s)
        WHERE (room, identity) IN (
            SELECT room, identity FROM delegated_leaves WHERE look_ms <= %(now)s
            ORDER BY look_ms LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        RETURNING room, identity, delay_id, delay_ms, seen_ms
        """,
        now=now_ms,
        least=limits[0],
        most=limits[1],
        limit=limit,
    )


async def find(tx: Tx, room: str, identity: str) -> Leave | None:
    """Of a participant."""
    return await tx.row(
        Leave,
        """
        SELECT room, identity, delay_id, delay_ms, seen_ms FROM delegated_leaves
        WHERE room = %(room)s AND identity = %(identity)s
        """,
        room=room,
        identity=identity,
    )


async def update_seen(tx: Tx, leave: Leave, seen_ms: int) -> None:
    """They were there."""
    await tx.execute(
        """
        UPDATE delegated_leaves SET seen_ms = %(seen)s
        WHERE room = %(room)s AND identity = %(identity)s AND delay_id = %(delay_id)s
        """,
        room=leave.room,
        identity=leave.identity,
        delay_id=leave.delay_id,
        seen=seen_ms,
    )


async def delete(tx: Tx, leave: Leave) -> None:
    """It is over; not if another was delegated since."""
    await tx.execute(
        "DELETE FROM delegated_leaves WHERE room = %(room)s AND identity = %(identity)s AND delay_id = %(delay_id)s",
        room=leave.room,
        identity=leave.identity,
        delay_id=leave.delay_id,
    )
