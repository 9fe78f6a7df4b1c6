"""SQL of profiles: one JSON object per user."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Later, Pipeline, Tx


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


def replace_fields(batch: Pipeline, user_nid: int, old: bytes, new: bytes) -> Later[int]:
    """The result is 0 if the fields are not `old` (`{}` where there are none yet) any more."""
    return batch.execute(
        """
        INSERT INTO profiles (user_nid, fields) SELECT user_nid, %(new)s FROM accounts
        WHERE user_nid = %(user_nid)s AND deactivated_ms IS NULL
        ON CONFLICT (user_nid) DO UPDATE SET fields = excluded.fields WHERE profiles.fields = %(old)s
        """,
        user_nid=user_nid,
        old=old,
        new=new,
    )


def insert_fields(batch: Pipeline, user_nid: int, fields: bytes) -> None:
    """Of an account that is being made; whoever had its name before has left nothing."""
    batch.execute(
        """
        INSERT INTO profiles (user_nid, fields) VALUES (%(user_nid)s, %(fields)s)
        ON CONFLICT (user_nid) DO UPDATE SET fields = excluded.fields
        """,
        user_nid=user_nid,
        fields=fields,
    )


def delete_profile(batch: Pipeline, user_nid: int) -> None:
    batch.execute("DELETE FROM profiles WHERE user_nid = %(user_nid)s", user_nid=user_nid)
