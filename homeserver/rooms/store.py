"""SQL of rooms beside the graph: aliases, publication, forgetting."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from homeserver.graph.refs import LEAVE
from homeserver.log.entries import Position
from homeserver.matrix.ids import RoomAlias
from homeserver.storage.tx import Pipeline, Tx

ONE_ROOM_PER_ALIAS = "room_aliases_pkey"
"""The constraint that whoever is second with an alias runs into."""


async def find_alias(tx: Tx, alias: RoomAlias) -> tuple[int, int] | None:
    """(room_nid, creator's user_nid) of an alias."""
    return await tx.one("SELECT room_nid, creator_nid FROM room_aliases WHERE alias = %(alias)s", alias=alias)


async def find_aliases(tx: Tx, room_nid: int) -> list[RoomAlias]:
    """All aliases of a room, sorted."""
    return await tx.column(
        "SELECT alias FROM room_aliases WHERE room_nid = %(room)s ORDER BY alias LIMIT 1000", room=room_nid
    )


def add_alias(batch: Pipeline, alias: RoomAlias, room_nid: int, creator_nid: int) -> None:
    """Fails with a unique violation if the alias is taken."""
    batch.execute(
        "INSERT INTO room_aliases (alias, room_nid, creator_nid) VALUES (%(alias)s, %(room)s, %(creator)s)",
        alias=alias,
        room=room_nid,
        creator=creator_nid,
    )


def remove_alias(batch: Pipeline, alias: RoomAlias) -> None:
    """Nothing happens if it is gone."""
    batch.execute("DELETE FROM room_aliases WHERE alias = %(alias)s", alias=alias)


def move_room(batch: Pipeline, old_nid: int, new_nid: int) -> None:
    """Aliases of this server, and the place in the directory, go over to a room's replacement."""
    batch.execute(
        "UPDATE room_aliases SET room_nid = %(new)s WHERE room_nid = %(old)s", old=old_nid, new=new_nid
    )
    batch.execute(
        "UPDATE published_rooms SET room_nid = %(new)s WHERE room_nid = %(old)s", old=old_nid, new=new_nid
    )


async def is_published(tx: Tx, room_nid: int) -> bool:
    return bool(
        await tx.value(
            "SELECT EXISTS (SELECT 1 FROM published_rooms WHERE room_nid = %(room)s AND network = '')",
            room=room_nid,
        )
    )


def add_published(batch: Pipeline, room_nid: int) -> None:
    batch.execute(
        "INSERT INTO published_rooms (room_nid) VALUES (%(room)s) ON CONFLICT DO NOTHING", room=room_nid
    )


def add_forgotten(batch: Pipeline, rows: Sequence[tuple[int, int, Position]]) -> None:
    """(user_nid, room_nid, position of the membership event that is forgotten)."""
    last = {(user, room): position for user, room, position in rows}
    batch.execute(
        """
        INSERT INTO forgotten_rooms (user_nid, room_nid, position)
        SELECT * FROM unnest(%(users)s::bigint[], %(rooms)s::bigint[], %(positions)s::bigint[])
        ON CONFLICT (user_nid, room_nid) DO UPDATE SET position = excluded.position
        """,
        users=[user for user, _ in last],
        rooms=[room for _, room in last],
        positions=list(last.values()),
    )


async def find_forgotten(tx: Tx, user_nid: int) -> dict[int, Position]:
    """room_nid -> position of the membership event that was forgotten."""
    return dict(
        await tx.all(
            "SELECT room_nid, position FROM forgotten_rooms WHERE user_nid = %(user)s", user=user_nid
        )
    )


async def read_memberships(
    tx: Tx, user_nids: Sequence[int]
) -> tuple[Position, list[tuple[int, int, int, Position, bool, int]]]:
    """The log's position, and (user_nid, room_nid, membership, since when, forgotten, its event) of the rooms of some users.

    `tx`: one snapshot. Memberships that resolution took away are leaves, without an event.
    """
    async with tx.pipeline() as batch:
        head = batch.one("SELECT position FROM log_head")
        rows = batch.all(
            """
            WITH own AS (
                SELECT user_nid, room_nid, membership, event_nid, greatest(event_nid, (
                    SELECT max(r.position) FROM state_resets r
                    WHERE r.room_nid = c.room_nid AND r.key_nid = c.key_nid AND r.changed)) AS since
                FROM current_state c WHERE user_nid = ANY(%(users)s::bigint[]) AND membership IS NOT NULL
                UNION ALL
                SELECT user_nid, room_nid, %(leave)s, 0, max(event_nid) FROM memberships m
                WHERE user_nid = ANY(%(users)s::bigint[]) AND NOT EXISTS (
                    SELECT 1 FROM current_state c WHERE c.user_nid = m.user_nid AND c.room_nid = m.room_nid)
                GROUP BY user_nid, room_nid
            )
            SELECT o.user_nid, o.room_nid, o.membership, o.since, f.position IS NOT NULL, o.event_nid FROM own o
            LEFT JOIN forgotten_rooms f
                ON f.user_nid = o.user_nid AND f.room_nid = o.room_nid AND f.position = o.since
            """,
            users=list(user_nids),
            leave=LEAVE,
        )
    assert head.result is not None
    return head.result[0], rows.result


async def find_joined(tx: Tx, user_nid: int, room_nids: Collection[int]) -> list[int]:
    """Those of the rooms that a user, of whichever server, is joined to; in the order of their numbers."""
    return await tx.column(
        """
        SELECT room_nid FROM current_state
        WHERE user_nid = %(user)s AND membership = 1 AND room_nid = ANY(%(rooms)s::bigint[]) ORDER BY room_nid
        """,
        user=user_nid,
        rooms=list(room_nids),
    )


async def find_departure(tx: Tx, user_nid: int, room_nid: int) -> Position | None:
    """The event with which a user's last stay in a room ended; None if there was none."""
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        """
        SELECT min(event_nid) FROM memberships
        WHERE user_nid = %(user)s AND room_nid = %(room)s AND event_nid > (
            SELECT max(event_nid) FROM memberships
            WHERE user_nid = %(user)s AND room_nid = %(room)s AND membership = 1
        )
        """,
        user=user_nid,
        room=room_nid,
    )


MAX_OWN = 100
"""Membership events of one user in one room that are read at once; the newest count."""


async def find_memberships_between(
    tx: Tx, user_nid: int, room_nid: int, since: Position, upto: Position
) -> list[int]:
    """A user's membership events in a room in (since, upto], oldest first."""
    newest = await tx.column(
        """
        SELECT event_nid FROM memberships
        WHERE user_nid = %(user)s AND room_nid = %(room)s AND event_nid > %(since)s AND event_nid <= %(upto)s
        ORDER BY event_nid DESC LIMIT %(limit)s
        """,
        user=user_nid,
        room=room_nid,
        since=since,
        upto=upto,
        limit=MAX_OWN,
    )
    return newest[::-1]


async def find_last_event(tx: Tx, room_nid: int, upto: Position) -> int | None:
    """The newest event of a room up to a position that clients are shown."""
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        """
        SELECT event_nid FROM events WHERE room_nid = %(room)s AND event_nid <= %(upto)s AND flags = 0
        ORDER BY event_nid DESC LIMIT 1
        """,
        room=room_nid,
        upto=upto,
    )


async def find_first_member(tx: Tx, room_nid: int) -> int | None:
    """The second event of a room: its creator joins. spec: rooms/v12/#authorization-rules"""
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        """
        SELECT event_nid FROM events WHERE room_nid = %(room)s AND event_nid > 0 AND flags = 0
        ORDER BY event_nid OFFSET 1 LIMIT 1
        """,
        room=room_nid,
    )
