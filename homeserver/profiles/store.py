"""SQL of profiles: one JSON object per user."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.matrix import folding
from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Later, Pipeline, Tx


class Stored(NamedTuple):
    """A profile as its row has it."""

    fields: bytes
    """One JSON object."""
    folded_name: str
    """Of the display name: see `matrix/folding.py`."""


async def find_fields(tx: Tx, user_id: UserId) -> tuple[int, bytes | None] | None:
    """(user_nid, fields) of a local user who has not ended; fields None: none was ever set."""
    row = await tx.one(
        """
        SELECT user_nid, fields FROM accounts JOIN users USING (user_nid) LEFT JOIN profiles USING (user_nid)
        WHERE user_id = %(user_id)s AND deactivated_ms IS NULL
        """,
        user_id=user_id,
    )
    return None if row is None else (row[0], row[1])


async def find_fields_of(tx: Tx, user_nids: Collection[int]) -> list[bytes]:
    """Of those users that have a profile."""
    return await tx.column(
        "SELECT fields FROM profiles WHERE user_nid = ANY(%(nids)s::bigint[])", nids=sorted(user_nids)
    )


class Shown(NamedTuple):
    """A local user's profile as far as it was read."""

    user_nid: int
    user_id: UserId
    fields: bytes | None
    """One JSON object; None: the profiles before it have as many bytes as were asked for already."""


async def find_near(tx: Tx, user_nid: int, room_nids: Collection[int], after: int, limit: int) -> list[int]:
    """user_nids of the first local users after `after` who are joined to one of the rooms, and the user."""
    return await tx.column(
        """
        SELECT near.user_nid FROM (
            SELECT user_nid FROM current_state
            WHERE room_nid = ANY(%(rooms)s::bigint[]) AND membership = 1 AND user_nid > %(after)s
            UNION SELECT %(user)s::bigint WHERE %(user)s::bigint > %(after)s) AS near
        WHERE EXISTS (SELECT 1 FROM accounts a WHERE a.user_nid = near.user_nid)
        ORDER BY near.user_nid LIMIT %(limit)s
        """,
        user=user_nid,
        rooms=list(room_nids),
        after=after,
        limit=limit,
    )


async def find_shown(tx: Tx, user_nids: Collection[int], size: int) -> list[Shown]:
    """Profiles in the order of user_nids, until those before have `size` bytes; empty where there is none."""
    return await tx.rows(
        Shown,
        """
        SELECT user_nid, user_id, CASE WHEN before < %(size)s THEN coalesce(fields, '{}'::bytea) END
        FROM (SELECT u.user_nid, u.user_id, p.fields,
                     coalesce(sum(octet_length(p.fields)) OVER (
                         ORDER BY u.user_nid ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
              FROM users u LEFT JOIN profiles p USING (user_nid) WHERE u.user_nid = ANY(%(nids)s::bigint[])) AS row
        ORDER BY user_nid
        """,
        nids=sorted(user_nids),
        size=size,
    )


async def find_many(tx: Tx, user_ids: Sequence[UserId]) -> list[tuple[UserId, bytes]]:
    """Of those local users that have a profile."""
    return [
        (user_id, fields)
        for user_id, fields in await tx.all(
            """
            SELECT user_id, fields FROM users JOIN profiles USING (user_nid) WHERE user_id = ANY(%(ids)s::text[])
            """,
            ids=list(user_ids),
        )
    ]


def replace_fields(batch: Pipeline, user_nid: int, old: bytes, new: Stored) -> Later[int]:
    """The result is 0 if the fields are not `old` (`{}` where there are none yet) any more."""
    return batch.execute(
        """
        INSERT INTO profiles (user_nid, fields, folded_name, folding)
        SELECT user_nid, %(new)s, %(folded_name)s, %(folding)s FROM accounts
        WHERE user_nid = %(user_nid)s AND deactivated_ms IS NULL
        ON CONFLICT (user_nid) DO UPDATE
        SET fields = excluded.fields, folded_name = excluded.folded_name, folding = excluded.folding
        WHERE profiles.fields = %(old)s
        """,
        user_nid=user_nid,
        old=old,
        new=new.fields,
        folded_name=new.folded_name,
        folding=folding.VERSION,
    )


def insert_fields(batch: Pipeline, user_nid: int, stored: Stored) -> None:
    """Of an account that is being made; whoever had its name before has left nothing."""
    batch.execute(
        """
        INSERT INTO profiles (user_nid, fields, folded_name, folding)
        VALUES (%(user_nid)s, %(fields)s, %(folded_name)s, %(folding)s)
        ON CONFLICT (user_nid) DO UPDATE
        SET fields = excluded.fields, folded_name = excluded.folded_name, folding = excluded.folding
        """,
        user_nid=user_nid,
        fields=stored.fields,
        folded_name=stored.folded_name,
        folding=folding.VERSION,
    )


async def find_folded_otherwise(tx: Tx, limit: int) -> list[tuple[int, bytes]]:
    """(user_nid, fields) of profiles whose names were folded by other rules than today's."""
    return await tx.all(
        "SELECT user_nid, fields FROM profiles WHERE folding <> %(folding)s LIMIT %(limit)s",
        folding=folding.VERSION,
        limit=limit,
    )


async def write_folded(tx: Tx, folded: Sequence[tuple[int, bytes, str]]) -> None:
    """(user_nid, fields, folded name); nothing for those whose fields are others by now."""
    nids, fields, names = zip(*folded, strict=True)
    await tx.execute(
        """
        UPDATE profiles p SET folded_name = f.folded_name, folding = %(folding)s
        FROM unnest(%(nids)s::bigint[], %(fields)s::bytea[], %(names)s::text[]) AS f (user_nid, fields, folded_name)
        WHERE p.user_nid = f.user_nid AND p.fields = f.fields
        """,
        folding=folding.VERSION,
        nids=list(nids),
        fields=list(fields),
        names=list(names),
    )


def delete_profile(batch: Pipeline, user_nid: int) -> None:
    batch.execute("DELETE FROM profiles WHERE user_nid = %(user_nid)s", user_nid=user_nid)
