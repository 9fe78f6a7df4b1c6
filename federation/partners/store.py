"""SQL of partners: what other servers did, and what patterns of rooms look at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.storage.tx import Tx


class ActivityRow(NamedTuple):
    """What one server did, or was told, on one day (days since 1970, UTC)."""

    day: int
    server_name: str
    kind: str
    room_id: str
    """Empty: in no room, or in any."""
    times: int
    peak: int


async def add_activity(tx: Tx, rows: Sequence[ActivityRow]) -> None:
    """Add counts to those that are there, without waiting for the disk: a few seconds of them may be lost."""
    await tx.execute("SET LOCAL synchronous_commit = off")
    rows = sorted(rows)  # two processes take the same locks in the same order
    await tx.execute(
        """
        INSERT INTO federation_activity AS a (day, server_name, kind, room_id, count, peak)
        SELECT * FROM unnest(
            %(days)s::integer[], %(servers)s::text[], %(kinds)s::text[], %(rooms)s::text[], %(counts)s::bigint[],
            %(peaks)s::bigint[]
        )
        ON CONFLICT (day, server_name, kind, room_id) DO UPDATE
            SET count = a.count + excluded.count, peak = greatest(a.peak, excluded.peak)
        """,
        days=[row.day for row in rows],
        servers=[row.server_name for row in rows],
        kinds=[row.kind for row in rows],
        rooms=[row.room_id for row in rows],
        counts=[row.times for row in rows],
        peaks=[row.peak for row in rows],
    )


async def delete_activity_before(tx: Tx, day: int) -> None:
    """Of days before this one."""
    await tx.execute("DELETE FROM federation_activity WHERE day < %(day)s", day=day)


async def delete_most_idle(tx: Tx, most: int) -> None:
    """So that at most so many rows stay: of the oldest days first, and of a day what was done least often."""
    await tx.execute(
        """
        DELETE FROM federation_activity a USING (
            SELECT day, server_name, kind, room_id FROM federation_activity ORDER BY day DESC, count DESC OFFSET %(most)s
        ) o
        WHERE (a.day, a.server_name, a.kind, a.room_id) = (o.day, o.server_name, o.kind, o.room_id)
        """,
        most=most,
    )


async def list_activity(tx: Tx, since_day: int, after: tuple[str, str, str], limit: int) -> list[ActivityRow]:
    """Sums over the days from `since_day` on, ordered by server, kind and room, after these; `day` is the last of them."""
    return await tx.rows(
        ActivityRow,
        """
        SELECT max(day), server_name, kind, room_id, sum(count)::bigint, max(peak) FROM federation_activity
        WHERE day >= %(since)s AND (server_name, kind, room_id) > (%(server)s, %(kind)s, %(room)s)
        GROUP BY server_name, kind, room_id ORDER BY server_name, kind, room_id LIMIT %(limit)s
        """,
        since=since_day,
        server=after[0],
        kind=after[1],
        room=after[2],
        limit=limit,
    )


async def sum_activity(tx: Tx, since_day: int, server_names: Collection[str]) -> list[ActivityRow]:
    """Sums of some servers over the days from `since_day` on, by kind and reason of refusals; rooms are not told apart."""
    return await tx.rows(
        ActivityRow,
        """
        SELECT max(day), server_name, kind, CASE kind WHEN 'refused' THEN room_id ELSE '' END AS what,
            sum(count)::bigint, max(peak)
        FROM federation_activity WHERE day >= %(since)s AND server_name = ANY(%(names)s)
        GROUP BY server_name, kind, what ORDER BY server_name, kind, what
        """,
        since=since_day,
        names=list(server_names),
    )


class RoomRow(NamedTuple):
    """What patterns look at of a room that is here."""

    room_id: str
    creator: str | None
    """Who has sent the m.room.create whose id the room's is (from version 12 on); None: another version, or it is not here."""
    aliases: list[str]
    """Of this server."""


async def find_rooms(tx: Tx, room_ids: Collection[str]) -> list[RoomRow]:
    """Those of the rooms that are here; of each at most a thousand aliases."""
    return await tx.rows(
        RoomRow,
        """
        SELECT r.room_id,
            (SELECT u.user_id FROM events e JOIN users u ON u.user_nid = e.sender_nid
             WHERE e.event_id = '$' || substr(r.room_id, 2) AND e.moved_to IS NULL),
            ARRAY(SELECT a.alias FROM room_aliases a WHERE a.room_nid = r.room_nid ORDER BY a.alias LIMIT 1000)
        FROM rooms r WHERE r.room_id = ANY(%(ids)s)
        """,
        ids=list(room_ids),
    )
