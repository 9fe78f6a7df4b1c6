"""SQL of the sender: servers in rooms, what a destination lacks, relays, what is known of destinations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Pipeline, Tx

READER = "federation"
"""The name of the reader, under which its cursors are found."""
MAX_BACKLOG = 1_000
"""Events that are counted for one destination; more are told as so many."""


async def read_remote_members(
    tx: Tx, room_nid: int, server_name: str
) -> tuple[Position, list[tuple[int, str]]]:
    """The log's position, and (user_nid, user_id) of joined users of other servers. `tx`: one snapshot."""
    async with tx.pipeline() as batch:
        head = batch.one("SELECT position FROM log_head")
        rows = batch.all(
            """
            SELECT u.user_nid, u.user_id FROM current_state c JOIN users u USING (user_nid)
            WHERE c.room_nid = %(room)s AND c.membership = 1
                  AND substr(u.user_id, strpos(u.user_id, ':') + 1) <> %(server)s
            """,
            room=room_nid,
            server=server_name,
        )
    assert head.result is not None
    return head.result[0], rows.result


async def came_with_room(tx: Tx, room_nid: int, event_nid: int) -> bool:
    """Whether the room was taken from another server with this event."""
    found = await tx.value(
        "SELECT EXISTS (SELECT 1 FROM room_gaps WHERE room_nid = %(room)s AND position = %(event)s)",
        room=room_nid,
        event=event_nid,
    )
    return bool(found)


# --- what a destination lacks --------------------------------------------------------------------------------------------


async def find_shared_rooms(tx: Tx, destination: str) -> list[int]:
    """room_nids of the rooms in which a server has a joined user."""
    return await tx.column(
        """
        SELECT DISTINCT c.room_nid FROM users u JOIN current_state c ON c.user_nid = u.user_nid
        WHERE substr(u.user_id, strpos(u.user_id, ':') + 1) = %(destination)s AND c.membership = 1
        """,
        destination=destination,
    )


class OwnEvent(NamedTuple):
    """An event of one of our users."""

    event_nid: int
    origin_server_ts: int


async def find_own_events(
    tx: Tx, rooms: Sequence[int], bounds: tuple[Position, Position], server_name: str, limit: int
) -> list[OwnEvent]:
    """The first events of our users in these rooms in (after, upto], in order; those that are told to others."""
    after, upto = bounds
    return await tx.rows(
        OwnEvent,
        """
        SELECT found.event_nid, found.origin_server_ts FROM unnest(%(rooms)s::bigint[]) AS r (room_nid)
        CROSS JOIN LATERAL (
            SELECT e.event_nid, e.origin_server_ts FROM events e JOIN users u ON u.user_nid = e.sender_nid
            WHERE e.room_nid = r.room_nid AND e.event_nid > %(after)s AND e.event_nid <= %(upto)s AND e.flags & 7 = 0
                  AND substr(u.user_id, strpos(u.user_id, ':') + 1) = %(server)s
            ORDER BY e.event_nid LIMIT %(limit)s
        ) found
        ORDER BY found.event_nid LIMIT %(limit)s
        """,
        rooms=list(rooms),
        after=after,
        upto=upto,
        server=server_name,
        limit=limit,
    )


async def find_latest_own_events(
    tx: Tx, rooms: Sequence[int], bounds: tuple[Position, Position], server_name: str
) -> list[int]:
    """The last event of our users in each of these rooms in (after, upto], in order."""
    after, upto = bounds
    return await tx.column(
        """
        SELECT found.event_nid FROM unnest(%(rooms)s::bigint[]) AS r (room_nid)
        CROSS JOIN LATERAL (
            SELECT e.event_nid FROM events e JOIN users u ON u.user_nid = e.sender_nid
            WHERE e.room_nid = r.room_nid AND e.event_nid > %(after)s AND e.event_nid <= %(upto)s AND e.flags & 7 = 0
                  AND substr(u.user_id, strpos(u.user_id, ':') + 1) = %(server)s
            ORDER BY e.event_nid DESC LIMIT 1
        ) found
        ORDER BY found.event_nid
        """,
        rooms=list(rooms),
        after=after,
        upto=upto,
        server=server_name,
    )


async def find_removals(
    tx: Tx, destination: str, bounds: tuple[Position, Position], server_name: str, limit: int
) -> list[int]:
    """Events in (after, upto] with which our users have removed users of a server from rooms, in order."""
    after, upto = bounds
    return await tx.column(
        """
        SELECT e.event_nid FROM users u JOIN current_state c ON c.user_nid = u.user_nid
        JOIN events e ON e.event_nid = c.event_nid JOIN users s ON s.user_nid = e.sender_nid
        WHERE substr(u.user_id, strpos(u.user_id, ':') + 1) = %(destination)s AND c.membership IN (4, 5)
              AND c.event_nid > %(after)s AND c.event_nid <= %(upto)s
              AND substr(s.user_id, strpos(s.user_id, ':') + 1) = %(server)s
        ORDER BY e.event_nid LIMIT %(limit)s
        """,
        destination=destination,
        after=after,
        upto=upto,
        server=server_name,
        limit=limit,
    )


# --- relays --------------------------------------------------------------------------------------------------------------


def insert_relays(batch: Pipeline, rows: Sequence[tuple[Position, int, list[str]]]) -> None:
    """(position, event_nid, servers beside those in the room)."""
    batch.execute(
        """
        INSERT INTO federation_relays (position, event_nid, servers)
        SELECT position, event_nid, string_to_array(servers, ',')
        FROM unnest(%(positions)s::bigint[], %(events)s::bigint[], %(servers)s::text[]) AS row (position, event_nid, servers)
        """,
        positions=[row[0] for row in rows],
        events=[row[1] for row in rows],
        servers=[",".join(row[2]) for row in rows],
    )


async def find_relays(
    tx: Tx, after: Position, upto: Position, limit: int
) -> list[tuple[Position, int, list[str]]]:
    """The first relays in (after, upto], in order."""
    return await tx.all(
        """
        SELECT position, event_nid, servers FROM federation_relays
        WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
        """,
        after=after,
        upto=upto,
        limit=limit,
    )


async def delete_relays(tx: Tx, upto: Position, limit: int) -> int:
    """Of relays up to a position that are older than a week. Returns how many."""
    return await tx.execute(
        """
        DELETE FROM federation_relays WHERE position IN (
            SELECT position FROM federation_relays
            WHERE position <= %(upto)s AND written < clock_timestamp() - interval '7 days' LIMIT %(limit)s)
        """,
        upto=upto,
        limit=limit,
    )


# --- what is known of destinations ---------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What became of the last transactions to a destination. Times in Unix ms; 0: never."""

    destination: str
    success_ms: int
    failure_ms: int
    error: str


async def write_seen(tx: Tx, rows: Sequence[Seen]) -> None:
    """Note what became of transactions; what is older than what is there changes nothing."""
    await tx.execute(
        """
        INSERT INTO federation_destinations AS d (destination, success_ms, failure_ms, error)
        SELECT * FROM unnest(%(destinations)s::text[], %(successes)s::bigint[], %(failures)s::bigint[], %(errors)s::text[])
        ON CONFLICT (destination) DO UPDATE SET
            success_ms = greatest(d.success_ms, excluded.success_ms),
            failure_ms = greatest(d.failure_ms, excluded.failure_ms),
            error = CASE WHEN excluded.failure_ms >= d.failure_ms THEN excluded.error ELSE d.error END
        """,
        destinations=[row.destination for row in rows],
        successes=[row.success_ms for row in rows],
        failures=[row.failure_ms for row in rows],
        errors=[row.error for row in rows],
    )


class StatusRow(NamedTuple):
    """A destination as the database knows it."""

    destination: str
    position: Position | None
    """It has acknowledged everything up to here; None: everything there is."""
    failures: int
    wait: float
    """Seconds until it is tried again; 0 or less: it is not waited for."""
    success_ms: int
    failure_ms: int
    error: str
    head: Position
    """Of the log."""


async def list_destinations(tx: Tx, destination: str | None, limit: int) -> list[StatusRow]:
    """Those that fail first, then those that are behind, then by name; or one of them."""
    return await tx.rows(
        StatusRow,
        """
        SELECT coalesce(d.destination, c.key), c.position, coalesce(c.failures, 0),
               coalesce(extract(epoch FROM c.retry_at - clock_timestamp())::float8, 0),
               coalesce(d.success_ms, 0), coalesce(d.failure_ms, 0), coalesce(d.error, ''),
               (SELECT position FROM log_head)
        FROM federation_destinations d
        FULL JOIN (SELECT * FROM log_cursors WHERE reader = %(reader)s) c ON c.key = d.destination
        WHERE %(destination)s::text IS NULL OR coalesce(d.destination, c.key) = %(destination)s::text
        ORDER BY coalesce(c.failures, 0) DESC, c.position NULLS LAST, 1 LIMIT %(limit)s
        """,
        reader=READER,
        destination=destination,
        limit=limit,
    )
