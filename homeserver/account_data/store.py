"""SQL of account data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline, Tx


class Row(NamedTuple):
    """One type of data."""

    room_nid: int
    type: str
    content: bytes


def upsert(batch: Pipeline, rows: Sequence[tuple[int, int, str, Position, bytes]]) -> None:
    """(user_nid, room_nid, type, position, content); keys must be distinct."""
    batch.execute(
        """
        INSERT INTO account_data (user_nid, room_nid, type, position, content)
        SELECT * FROM unnest(%(users)s::bigint[], %(rooms)s::bigint[], %(types)s::text[], %(positions)s::bigint[],
                             %(contents)s::bytea[])
        ON CONFLICT (user_nid, room_nid, type) DO UPDATE
            SET position = excluded.position, content = excluded.content
        """,
        users=[row[0] for row in rows],
        rooms=[row[1] for row in rows],
        types=[row[2] for row in rows],
        positions=[row[3] for row in rows],
        contents=[row[4] for row in rows],
    )


MAX_PAST = 64
MAX_PAST_BYTES = 1024 * 1024
"""So many earlier contents of a type are kept, and so much of them; what came before the oldest counts by the oldest."""


def keep_past(batch: Pipeline, rows: Sequence[tuple[int, str, Position, bytes]]) -> None:
    """(user_nid, type, position, new content) of global data that is about to be replaced: what it is now is kept."""
    batch.execute(
        """
        INSERT INTO past_account_data (user_nid, type, upto, content)
        SELECT usr, k.type, k.upto, a.content
        FROM unnest(%(users)s::bigint[], %(types)s::text[], %(positions)s::bigint[], %(contents)s::bytea[])
                 AS k (usr, type, upto, content)
             LEFT JOIN account_data a ON a.user_nid = usr AND a.room_nid = 0 AND a.type = k.type
        WHERE a.content IS DISTINCT FROM k.content
        """,
        users=[row[0] for row in rows],
        types=[row[1] for row in rows],
        positions=[row[2] for row in rows],
        contents=[row[3] for row in rows],
    )
    batch.execute(
        """
        DELETE FROM past_account_data p USING (
            SELECT user_nid, type, upto, row_number() OVER newer AS number, sum(octet_length(content)) OVER newer AS bytes
            FROM past_account_data JOIN unnest(%(users)s::bigint[], %(types)s::text[]) AS k (usr, kind)
                 ON user_nid = usr AND type = kind
            WINDOW newer AS (PARTITION BY user_nid, type ORDER BY upto DESC)
        ) kept
        WHERE p.user_nid = kept.user_nid AND p.type = kept.type AND p.upto = kept.upto
          AND (kept.number > %(most)s OR kept.bytes > %(bytes)s)
        """,
        users=[row[0] for row in rows],
        types=[row[1] for row in rows],
        most=MAX_PAST,
        bytes=MAX_PAST_BYTES,
    )


async def find_past(tx: Tx, user_nid: int, kind: str, after: Position) -> list[tuple[Position, bytes | None]]:
    """(upto, content) of what global data was for positions after one, the oldest first; None: there was none."""
    return await tx.all(
        """
        SELECT upto, content FROM past_account_data
        WHERE user_nid = %(user)s AND type = %(type)s AND upto > %(after)s ORDER BY upto
        """,
        user=user_nid,
        type=kind,
        after=after,
    )


async def find(tx: Tx, user_nid: int, room_nid: int, kind: str) -> bytes | None:
    """Content of one type."""
    return await tx.value(  # type: ignore[no-any-return]  # bytea
        """
        SELECT content FROM account_data
        WHERE user_nid = %(user)s AND room_nid = %(room)s AND type = %(type)s
        """,
        user=user_nid,
        room=room_nid,
        type=kind,
    )


class Placed(NamedTuple):
    """Content of one type, and where it was written."""

    type: str
    position: Position
    content: bytes


async def find_user_id(tx: Tx, user_nid: int) -> str:
    """A user's id."""
    return str(await tx.value("SELECT user_id FROM users WHERE user_nid = %(user)s", user=user_nid))


async def find_types(
    tx: Tx, user_nids: Sequence[int], kinds: Sequence[str]
) -> list[tuple[int, str, Position, bytes]]:
    """(user_nid, type, position, content) of global data of these types, as far as there is any."""
    return await tx.all(
        """
        SELECT user_nid, type, position, content FROM account_data
        WHERE user_nid = ANY(%(users)s::bigint[]) AND room_nid = 0 AND type = ANY(%(types)s::text[])
        """,
        users=list(user_nids),
        types=list(kinds),
    )


async def find_placed(tx: Tx, user_nid: int, room_nid: int, kind: str) -> tuple[Position, bytes]:
    """Position and content of one type; (0, b"") if there is none."""
    row = await tx.one(
        """
        SELECT position, content FROM account_data
        WHERE user_nid = %(user)s AND room_nid = %(room)s AND type = %(type)s
        """,
        user=user_nid,
        room=room_nid,
        type=kind,
    )
    return (0, b"") if row is None else (row[0], row[1])


class Held(NamedTuple):
    """What there is of one key, and what else its user has."""

    user_nid: int
    room_nid: int
    type: str
    position: Position
    """0: nothing yet."""
    size: int
    """Bytes of the content."""
    types: int
    """Types of data that the user has in that room; counted where the type is new."""
    held: int
    """Bytes of all data of the user; summed where the type is new, or was asked for."""


def find_placed_among(
    batch: Pipeline, keys: Sequence[tuple[int, int, str]], summed: Collection[int]
) -> Later[list[Held]]:
    """What there is of these keys (user_nid, room_nid, type); `summed`: users whose data is summed whatever they do."""
    return batch.rows(
        Held,
        """
        WITH asked AS (
            SELECT usr, room, k.type, position, octet_length(content) AS size
            FROM unnest(%(users)s::bigint[], %(rooms)s::bigint[], %(types)s::text[]) AS k (usr, room, type)
                 LEFT JOIN account_data a ON a.user_nid = usr AND a.room_nid = room AND a.type = k.type
        ), counted AS MATERIALIZED (
            SELECT usr, room,
                   (SELECT count(*) FROM account_data WHERE user_nid = usr AND room_nid = room) AS number
            FROM (SELECT DISTINCT usr, room FROM asked WHERE position IS NULL) growing
        ), summed AS MATERIALIZED (
            SELECT usr, (SELECT sum(octet_length(content)) FROM account_data WHERE user_nid = usr)::bigint AS held
            FROM (SELECT DISTINCT usr FROM asked WHERE position IS NULL OR usr = ANY(%(summed)s::bigint[])) heavy
        )
        SELECT usr, room, type, coalesce(position, 0), coalesce(size, 0), coalesce(number, 0), coalesce(held, 0)
        FROM asked LEFT JOIN counted USING (usr, room) LEFT JOIN summed USING (usr)
        """,
        users=[key[0] for key in keys],
        rooms=[key[1] for key in keys],
        types=[key[2] for key in keys],
        summed=list(summed),
    )


async def find_changes(tx: Tx, user_nid: int, since: Position, upto: Position) -> list[Row]:
    """What has changed in (since, upto], in order."""
    return await tx.rows(
        Row,
        """
        SELECT room_nid, type, content FROM account_data
        WHERE user_nid = %(user)s AND position > %(since)s AND position <= %(upto)s ORDER BY position
        """,
        user=user_nid,
        since=since,
        upto=upto,
    )


async def find_of_rooms(tx: Tx, user_nid: int, room_nids: Sequence[int]) -> list[Row]:
    """Everything about these rooms."""
    return await tx.rows(
        Row,
        """
        SELECT room_nid, type, content FROM account_data
        WHERE user_nid = %(user)s AND room_nid = ANY(%(rooms)s::bigint[]) ORDER BY position
        """,
        user=user_nid,
        rooms=list(room_nids),
    )


async def find_of_all_rooms(tx: Tx, user_nid: int, kinds: Sequence[str]) -> list[Row]:
    """Data of these types, of all rooms and of none."""
    return await tx.rows(
        Row,
        """
        SELECT room_nid, type, content FROM account_data
        WHERE user_nid = %(user)s AND type = ANY(%(types)s::text[])
        """,
        user=user_nid,
        types=list(kinds),
    )


async def delete_of_user(tx: Tx, user_nid: int) -> None:
    await tx.execute("DELETE FROM account_data WHERE user_nid = %(user)s", user=user_nid)
    await tx.execute("DELETE FROM past_account_data WHERE user_nid = %(user)s", user=user_nid)
