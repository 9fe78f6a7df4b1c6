"""SQL of key backups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.key_backup.types import Row
from homeserver.storage.tx import Tx


class VersionRow(NamedTuple):
    """A version with the number of its keys."""

    version: int
    algorithm: str
    auth_data: bytes
    etag: int
    deleted: bool
    keys: int


async def find_version(tx: Tx, user_nid: int, version: int | None) -> VersionRow | None:
    """That version (also if deleted), or without one the newest that is not deleted."""
    return await tx.row(
        VersionRow,
        """
        SELECT b.version, b.algorithm, b.auth_data, b.etag, b.deleted, b.keys FROM key_backups b
        WHERE b.user_nid = %(user)s AND CASE WHEN %(version)s::bigint = 0 THEN NOT b.deleted
                                             ELSE b.version = %(version)s::bigint END
        ORDER BY b.version DESC LIMIT 1
        """,
        user=user_nid,
        version=version or 0,
    )


async def lock_newest(tx: Tx, user_nid: int) -> int | None:
    """The newest version that is not deleted; nobody else changes it until the transaction ends."""
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        """
        SELECT version FROM key_backups WHERE user_nid = %(user)s AND NOT deleted
        ORDER BY version DESC LIMIT 1 FOR UPDATE
        """,
        user=user_nid,
    )


async def lock_user(tx: Tx, user_nid: int) -> None:
    """Nobody else makes a version for the user until the transaction ends. A statement of its own: the next one must see
    what was made before the lock was had.
    """
    await tx.execute("SELECT 1 FROM accounts WHERE user_nid = %(user)s FOR NO KEY UPDATE", user=user_nid)


async def insert_version(tx: Tx, user_nid: int, algorithm: str, auth_data: bytes) -> int:
    """A number greater than any the user had."""
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        """
        INSERT INTO key_backups (user_nid, version, algorithm, auth_data)
        SELECT %(user)s, coalesce(max(version), 0) + 1, %(algorithm)s, %(data)s
        FROM key_backups WHERE user_nid = %(user)s
        RETURNING version
        """,
        user=user_nid,
        algorithm=algorithm,
        data=auth_data,
    )


async def update_auth_data(tx: Tx, user_nid: int, version: int, auth_data: bytes) -> int:
    """Returns 0 if the version has been deleted."""
    return await tx.execute(
        """
        UPDATE key_backups SET auth_data = %(data)s
        WHERE user_nid = %(user)s AND version = %(version)s AND NOT deleted
        """,
        user=user_nid,
        version=version,
        data=auth_data,
    )


async def delete_version(tx: Tx, user_nid: int, version: int) -> None:
    """Its keys go; that there was such a version is remembered."""
    await tx.execute(
        "UPDATE key_backups SET deleted = true, keys = 0 WHERE user_nid = %(user)s AND version = %(version)s",
        user=user_nid,
        version=version,
    )
    await tx.execute(
        "DELETE FROM backed_up_keys WHERE user_nid = %(user)s AND version = %(version)s",
        user=user_nid,
        version=version,
    )


class Kept(NamedTuple):
    """How many keys were better than what was there, and of how many nothing was there."""

    changed: int
    new: int


async def put_keys(tx: Tx, user_nid: int, version: int, rows: Sequence[Row]) -> Kept:
    """Keep each key if it is better than what is there (E2E-15). Ids must be distinct."""
    kept = await tx.row(
        Kept,
        """
        WITH kept AS (
            INSERT INTO backed_up_keys AS k (user_nid, version, room_id, session_id, is_verified,
                                             first_message_index, forwarded_count, session_data)
            SELECT %(user)s, %(version)s, * FROM unnest(
                %(rooms)s::text[], %(sessions)s::text[], %(verified)s::boolean[], %(indexes)s::bigint[],
                %(forwarded)s::bigint[], %(data)s::bytea[])
            ON CONFLICT (user_nid, version, room_id, session_id) DO UPDATE
                SET is_verified = excluded.is_verified, first_message_index = excluded.first_message_index,
                    forwarded_count = excluded.forwarded_count, session_data = excluded.session_data
                -- Verified beats unverified; then the lower index; then the lower count.
                WHERE (NOT excluded.is_verified, excluded.first_message_index, excluded.forwarded_count)
                    < (NOT k.is_verified, k.first_message_index, k.forwarded_count)
            RETURNING xmax = 0 AS new  -- no row was there that this one took the place of
        )
        SELECT count(*), count(*) FILTER (WHERE new) FROM kept
        """,
        user=user_nid,
        version=version,
        rooms=[row.room_id for row in rows],
        sessions=[row.session_id for row in rows],
        verified=[row.is_verified for row in rows],
        indexes=[row.first_message_index for row in rows],
        forwarded=[row.forwarded_count for row in rows],
        data=[row.session_data for row in rows],
    )
    assert kept is not None
    return kept


async def delete_keys(
    tx: Tx, user_nid: int, version: int, room_id: str | None, session_id: str | None
) -> int:
    """All keys, those of a room, or one. Returns how many went."""
    return await tx.execute(
        """
        DELETE FROM backed_up_keys
        WHERE user_nid = %(user)s AND version = %(version)s
          AND (%(room)s::text = '' OR room_id = %(room)s) AND (%(session)s::text = '' OR session_id = %(session)s)
        """,
        user=user_nid,
        version=version,
        room=room_id or "",
        session=session_id or "",
    )


PAGE, PAGE_BYTES = 500, 2**20
"""Keys, and bytes of them, that are read together."""


async def find_key(tx: Tx, user_nid: int, version: int, room_id: str, session_id: str) -> Row | None:
    """The key of one session."""
    return await tx.row(
        Row,
        """
        SELECT room_id, session_id, is_verified, first_message_index, forwarded_count, session_data
        FROM backed_up_keys
        WHERE user_nid = %(user)s AND version = %(version)s AND room_id = %(room)s AND session_id = %(session)s
        """,
        user=user_nid,
        version=version,
        room=room_id,
        session=session_id,
    )


async def find_keys(
    tx: Tx, user_nid: int, version: int, room_id: str | None, after: tuple[str, str]
) -> list[Row]:
    """A page of the keys of a room, or of all, by room and session, behind a (room_id, session_id); empty at the end."""
    return await tx.rows(
        Row,
        """
        SELECT room_id, session_id, is_verified, first_message_index, forwarded_count, session_data
        FROM (
            SELECT *, sum(octet_length(session_data)) OVER (ORDER BY room_id, session_id) - octet_length(session_data) AS before
            FROM (
                SELECT * FROM backed_up_keys
                WHERE user_nid = %(user)s AND version = %(version)s AND (%(room)s::text = '' OR room_id = %(room)s)
                  AND (room_id, session_id) > (%(after_room)s, %(after_session)s)
                ORDER BY room_id, session_id LIMIT %(limit)s
            ) page
        ) measured
        WHERE before < %(bytes)s ORDER BY room_id, session_id
        """,
        user=user_nid,
        version=version,
        room=room_id or "",
        after_room=after[0],
        after_session=after[1],
        limit=PAGE,
        bytes=PAGE_BYTES,
    )


async def touch(tx: Tx, user_nid: int, version: int, more: int) -> tuple[int, int]:
    """The keys have changed: another etag. `more`: keys than before. Returns (etag, count)."""
    row = await tx.one(
        """
        UPDATE key_backups SET etag = etag + 1, keys = keys + %(more)s
        WHERE user_nid = %(user)s AND version = %(version)s RETURNING etag, keys
        """,
        user=user_nid,
        version=version,
        more=more,
    )
    assert row is not None
    return row[0], row[1]


async def delete_of_user(tx: Tx, user_nid: int) -> None:
    """All versions with their keys."""
    async with tx.pipeline() as batch:
        batch.execute("DELETE FROM backed_up_keys WHERE user_nid = %(user)s", user=user_nid)
        batch.execute("DELETE FROM key_backups WHERE user_nid = %(user)s", user=user_nid)
