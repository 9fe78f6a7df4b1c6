"""SQL of sliding sync."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Pipeline, Tx


class Key(NamedTuple):
    """One connection."""

    user_nid: int
    device_id: str
    conn_id: str


async def find_state(tx: Tx, key: Key, version: int) -> tuple[bytes, int] | None:
    """(state, when it was written) of a connection."""
    return await tx.one(
        """
        SELECT state, written_ms FROM sliding_connections
        WHERE user_nid = %(user)s AND device_id = %(device)s AND conn_id = %(conn)s AND version = %(version)s
        """,
        user=key.user_nid,
        device=key.device_id,
        conn=key.conn_id,
        version=version,
    )


def insert_state(batch: Pipeline, key: Key, version: int, written_ms: int, state: bytes) -> None:
    """Another state of a connection."""
    batch.execute(
        """
        INSERT INTO sliding_connections (user_nid, device_id, conn_id, version, written_ms, state)
        VALUES (%(user)s, %(device)s, %(conn)s, %(version)s, %(ms)s, %(state)s)
        """,
        user=key.user_nid,
        device=key.device_id,
        conn=key.conn_id,
        version=version,
        ms=written_ms,
        state=state,
    )


def delete_other_states(batch: Pipeline, key: Key, versions: Collection[int]) -> None:
    """Of a connection only these may be gone on with."""
    batch.execute(
        """
        DELETE FROM sliding_connections
        WHERE user_nid = %(user)s AND device_id = %(device)s AND conn_id = %(conn)s
              AND version <> ALL(%(versions)s::bigint[])
        """,
        user=key.user_nid,
        device=key.device_id,
        conn=key.conn_id,
        versions=list(versions),
    )


def delete_old_connections(batch: Pipeline, key: Key, most: int) -> None:
    """Of a device the newest `most` connections stay."""
    batch.execute(
        """
        DELETE FROM sliding_connections
        WHERE user_nid = %(user)s AND device_id = %(device)s AND conn_id IN (
            SELECT conn_id FROM sliding_connections WHERE user_nid = %(user)s AND device_id = %(device)s
            GROUP BY conn_id ORDER BY max(written_ms) DESC, conn_id OFFSET %(most)s)
        """,
        user=key.user_nid,
        device=key.device_id,
        most=most,
    )


def delete_of_devices(batch: Pipeline, user_nid: int, device_ids: Sequence[str]) -> None:
    """Devices end."""
    batch.execute(
        """
        DELETE FROM sliding_connections
        WHERE user_nid = %(user)s AND device_id = ANY(%(devices)s::text[])
        """,
        user=user_nid,
        devices=list(device_ids),
    )


async def delete_expired(tx: Tx, before_ms: int, most: int) -> int:
    """At most so many states that were written before then. Returns how many went."""
    return len(
        await tx.column(
            """
            DELETE FROM sliding_connections WHERE ctid = ANY(ARRAY(
                SELECT ctid FROM sliding_connections WHERE written_ms < %(before)s LIMIT %(most)s))
            RETURNING 1
            """,
            before=before_ms,
            most=most,
        )
    )


async def find_newest_events(tx: Tx, room_nids: Sequence[int]) -> list[tuple[int, Position]]:
    """(room_nid, position of its newest event that is shown)."""
    return await tx.all(
        """
        SELECT row.room, coalesce((SELECT event_nid FROM events WHERE room_nid = row.room AND flags = 0
                                   ORDER BY event_nid DESC LIMIT 1), 0)
        FROM unnest(%(rooms)s::bigint[]) AS row (room)
        """,
        rooms=list(room_nids),
    )


async def find_state_events(
    tx: Tx, room_nids: Sequence[int], key_nids: Sequence[int]
) -> list[tuple[int, int, int]]:
    """(room_nid, key_nid, event_nid) of the current state of rooms."""
    return await tx.all(
        """
        SELECT room_nid, key_nid, event_nid FROM current_state
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND key_nid = ANY(%(keys)s::integer[])
        """,
        rooms=list(room_nids),
        keys=list(key_nids),
    )


async def find_newest_messages(tx: Tx, room_nids: Sequence[int], most: int) -> list[tuple[int, Position]]:
    """(room_nid, event_nid) of the newest events of each room that are no state, newest first."""
    return await tx.all(
        """
        SELECT row.room, e.event_nid
        FROM unnest(%(rooms)s::bigint[]) AS row (room),
             LATERAL (SELECT event_nid FROM events
                      WHERE room_nid = row.room AND flags = 0 AND key_nid IS NULL
                      ORDER BY event_nid DESC LIMIT %(most)s) e
        ORDER BY row.room, e.event_nid DESC
        """,
        rooms=list(room_nids),
        most=most,
    )
