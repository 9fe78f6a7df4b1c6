"""SQL of what administrators do with files."""

from __future__ import annotations

from typing import LiteralString, NamedTuple

from homeserver.storage.tx import Tx

_COLUMNS: LiteralString = """
    m.media_nid, m.server_name, m.media_id, m.uploader_nid, m.content_type, m.filename, m.created_ms, m.last_used_ms,
    m.quarantined_by, m.protected, m.held, m.origin, b.size, b.sha256
"""
ORDERS: dict[str, LiteralString] = {
    "created_ts": "m.created_ms",
    "last_access_ts": "m.last_used_ms",
    "media_id": "m.media_id",
    "media_length": "b.size",
    "media_type": "m.content_type",
    "quarantined_by": "m.quarantined_by",
    "safe_from_quarantine": "m.protected",
    "upload_name": "m.filename",
}
"""What a list can be ordered by, under Synapse's names."""


class MediaInfo(NamedTuple):
    """A file as administrators see it."""

    media_nid: int
    server_name: str
    media_id: str
    uploader_nid: int | None
    content_type: str
    filename: str | None
    created_ms: int
    last_used_ms: int
    quarantined_by: str | None
    protected: bool
    held: bool
    origin: int
    size: int | None
    sha256: bytes | None


class UserUsage(NamedTuple):
    """What a user's files take."""

    user_nid: int
    files: int
    bytes: int


async def find(tx: Tx, server_name: str, media_id: str) -> MediaInfo | None:
    """A file by its address."""
    return await tx.row(
        MediaInfo,
        f"""
        SELECT {_COLUMNS} FROM media m LEFT JOIN media_blobs b USING (blob_nid)
        WHERE m.server_name = %(server)s AND m.media_id = %(id)s
        """,  # noqa: S608  # a constant
        server=server_name,
        id=media_id,
    )


async def list_of_user(
    tx: Tx, user_nid: int, order_by: str, *, descending: bool, start: int, limit: int
) -> list[MediaInfo]:
    """A page of somebody's files."""
    direction: LiteralString = "DESC NULLS LAST" if descending else "ASC NULLS FIRST"
    return await tx.rows(
        MediaInfo,
        f"""
        SELECT {_COLUMNS} FROM media m LEFT JOIN media_blobs b USING (blob_nid) WHERE m.uploader_nid = %(user)s
        ORDER BY {ORDERS[order_by]} {direction}, m.media_nid OFFSET %(start)s LIMIT %(limit)s
        """,  # noqa: S608  # constants
        user=user_nid,
        start=start,
        limit=limit,
    )


async def count_of_user(tx: Tx, user_nid: int) -> int:
    """How many files somebody has."""
    return int(await tx.value("SELECT count(*) FROM media WHERE uploader_nid = %(user)s", user=user_nid))


async def list_largest_users(tx: Tx, start: int, limit: int) -> list[UserUsage]:
    """Whose files take most, as counted for the quota."""
    return await tx.rows(
        UserUsage,
        "SELECT user_nid, files, bytes FROM media_usage ORDER BY bytes DESC, user_nid OFFSET %(start)s LIMIT %(limit)s",
        start=start,
        limit=limit,
    )


async def find_older(
    tx: Tx, origin: int, before_ms: int, larger: int, limits: tuple[int, int]
) -> list[MediaInfo]:
    """Files not looked at since, and larger than so many bytes; not those that are protected, quarantined or held.

    `limits`: after which number, and how many at most.
    """
    return await tx.rows(
        MediaInfo,
        f"""
        SELECT {_COLUMNS} FROM media m JOIN media_blobs b USING (blob_nid)
        WHERE m.origin = %(origin)s AND m.last_used_ms < %(before)s AND b.size > %(larger)s AND m.media_nid > %(after)s
              AND NOT m.protected AND NOT m.held AND m.quarantined_by IS NULL
        ORDER BY m.media_nid LIMIT %(limit)s
        """,  # noqa: S608  # a constant
        origin=origin,
        before=before_ms,
        larger=larger,
        after=limits[0],
        limit=limits[1],
    )


async def quarantine(tx: Tx, addresses: list[tuple[str, str]], by: str) -> int:
    """Nobody is given these files any more, nor others that hold the same; those that are protected stay. How many."""
    return await tx.execute(
        """
        UPDATE media SET quarantined_by = %(by)s WHERE quarantined_by IS NULL AND NOT protected AND (
            (server_name, media_id) IN (SELECT * FROM unnest(%(servers)s::text[], %(ids)s::text[]))
            OR blob_nid IN (
                SELECT blob_nid FROM media
                JOIN unnest(%(servers)s::text[], %(ids)s::text[]) AS w (server_name, media_id) USING (server_name, media_id)
                WHERE NOT protected
            )
        )
        """,
        servers=[server for server, _ in addresses],
        ids=[media_id for _, media_id in addresses],
        by=by,
    )


async def quarantine_of_user(tx: Tx, user_nid: int, by: str) -> int:
    """All files of somebody, but for those that are protected."""
    return await tx.execute(
        """
        UPDATE media SET quarantined_by = %(by)s
        WHERE uploader_nid = %(user)s AND blob_nid IS NOT NULL AND quarantined_by IS NULL AND NOT protected
        """,
        user=user_nid,
        by=by,
    )


async def release(tx: Tx, server_name: str, media_id: str) -> int:
    """Take a file out of quarantine, with all that hold the same; what a scanner has found counts as a mistake."""
    return await tx.execute(
        """
        WITH cleared AS (
            UPDATE media_blobs SET verdict = '' WHERE verdict <> '' AND blob_nid =
                (SELECT blob_nid FROM media WHERE server_name = %(server)s AND media_id = %(id)s)
        )
        UPDATE media SET quarantined_by = NULL
        WHERE blob_nid = (SELECT blob_nid FROM media WHERE server_name = %(server)s AND media_id = %(id)s)
        """,
        server=server_name,
        id=media_id,
    )


async def set_protected(tx: Tx, server_name: str, media_id: str, *, protected: bool) -> int:
    """A file cannot be quarantined, or can be again."""
    return await tx.execute(
        "UPDATE media SET protected = %(protected)s WHERE server_name = %(server)s AND media_id = %(id)s",
        server=server_name,
        id=media_id,
        protected=protected,
    )


async def set_held(tx: Tx, server_name: str, media_id: str, *, held: bool) -> int:
    """A file stays whoever deletes it, or no longer."""
    return await tx.execute(
        "UPDATE media SET held = %(held)s WHERE server_name = %(server)s AND media_id = %(id)s",
        server=server_name,
        id=media_id,
        held=held,
    )
