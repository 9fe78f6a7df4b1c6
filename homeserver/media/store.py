"""SQL of files: their rows, the blobs these refer to, and what users have used of their quota."""

from __future__ import annotations

from collections.abc import Collection

from homeserver.media.types import LEAST_CHARGED, Blob, Media, NewMedia, Unkept
from homeserver.storage.tx import Tx

# --- reading ---------------------------------------------------------------------------------------------------------


async def find(tx: Tx, server_name: str, media_id: str) -> Media | None:
    """A file by its address."""
    return await tx.row(
        Media,
        """
        SELECT m.media_nid, m.server_name, m.media_id, m.uploader_nid, m.content_type, m.filename, m.created_ms, m.expires_ms,
               m.origin, m.authenticated, m.quarantined_by, b.blob_nid, b.key, b.size, b.sha256, b.verdict
        FROM media m LEFT JOIN media_blobs b USING (blob_nid)
        WHERE m.server_name = %(server)s AND m.media_id = %(id)s
        """,
        server=server_name,
        id=media_id,
    )


async def count_pending(tx: Tx, user_nid: int, now_ms: int) -> tuple[int, int]:
    """How many files somebody may still upload to addresses they have, and when the first of these is over (ms; 0: none)."""
    row = await tx.one(
        """
        SELECT count(*), coalesce(min(expires_ms), 0) FROM media
        WHERE uploader_nid = %(user)s AND expires_ms > %(now)s
        """,
        user=user_nid,
        now=now_ms,
    )
    assert row is not None
    return int(row[0]), int(row[1])


async def read_used(tx: Tx, user_nid: int) -> int:
    """Bytes of somebody's quota that are used."""
    return int(await tx.value("SELECT bytes FROM media_usage WHERE user_nid = %(user)s", user=user_nid) or 0)


# --- keeping ---------------------------------------------------------------------------------------------------------


async def insert_pending(tx: Tx, new: NewMedia, now_ms: int, expires_ms: int) -> None:
    """An address to upload to."""
    await tx.execute(
        """
        INSERT INTO media (server_name, media_id, uploader_nid, created_ms, expires_ms, last_used_ms, origin, authenticated)
        VALUES (%(server)s, %(id)s, %(user)s, %(now)s, %(expires)s, %(now)s, %(origin)s, %(authenticated)s)
        """,
        server=new.server_name,
        id=new.media_id,
        user=new.uploader_nid,
        now=now_ms,
        expires=expires_ms,
        origin=int(new.origin),
        authenticated=new.authenticated,
    )


async def share_blob(tx: Tx, sha256: bytes) -> Blob | None:
    """One more file holds this; None if it is not kept yet. The blob cannot go until the transaction is over."""
    return await tx.row(
        Blob,
        "UPDATE media_blobs SET refs = refs + 1 WHERE sha256 = %(sha256)s RETURNING blob_nid, key",
        sha256=sha256,
    )


async def insert_blob(tx: Tx, sha256: bytes, key: str, size: int) -> Blob:
    """As `share_blob`; kept under `key` unless another process was faster: then its key is returned."""
    blob = await tx.row(
        Blob,
        """
        INSERT INTO media_blobs (sha256, key, size, refs) VALUES (%(sha256)s, %(key)s, %(size)s, 1)
        ON CONFLICT (sha256) DO UPDATE SET refs = media_blobs.refs + 1 RETURNING blob_nid, key
        """,
        sha256=sha256,
        key=key,
        size=size,
    )
    assert blob is not None
    return blob


async def insert(tx: Tx, new: NewMedia, blob_nid: int, now_ms: int) -> bool:
    """A file that is whole; False if its address is taken."""
    return bool(
        await tx.execute(
            """
            INSERT INTO media (server_name, media_id, blob_nid, uploader_nid, content_type, filename, created_ms, last_used_ms,
                               origin, authenticated)
            VALUES (%(server)s, %(id)s, %(blob)s, %(user)s, %(type)s, %(filename)s, %(now)s, %(now)s, %(origin)s,
                    %(authenticated)s)
            ON CONFLICT (server_name, media_id) DO NOTHING
            """,
            server=new.server_name,
            id=new.media_id,
            blob=blob_nid,
            user=new.uploader_nid,
            type=new.content_type,
            filename=new.filename,
            now=now_ms,
            origin=int(new.origin),
            authenticated=new.authenticated,
        )
    )


async def complete(tx: Tx, new: NewMedia, blob_nid: int, now_ms: int) -> bool:
    """What was waited for has come; False if it had before, or its time is over."""
    return bool(
        await tx.execute(
            """
            UPDATE media SET blob_nid = %(blob)s, content_type = %(type)s, filename = %(filename)s, expires_ms = NULL,
                             last_used_ms = %(now)s
            WHERE server_name = %(server)s AND media_id = %(id)s AND blob_nid IS NULL AND expires_ms > %(now)s
            """,
            server=new.server_name,
            id=new.media_id,
            blob=blob_nid,
            type=new.content_type,
            filename=new.filename,
            now=now_ms,
        )
    )


async def charge(tx: Tx, user_nid: int, size: int, quota: int) -> bool:
    """Count a file against somebody's quota (bytes); False if it would be exceeded: then nothing is counted."""
    return bool(
        await tx.execute(
            """
            INSERT INTO media_usage AS u (user_nid, bytes, files)
            SELECT %(user)s, %(size)s::bigint, 1 WHERE %(size)s::bigint <= %(quota)s
            ON CONFLICT (user_nid) DO UPDATE SET bytes = u.bytes + excluded.bytes, files = u.files + 1
            WHERE u.bytes + excluded.bytes <= %(quota)s
            """,
            user=user_nid,
            size=size,
            quota=quota,
        )
    )


async def note_verdict(tx: Tx, blob_nid: int, found: str) -> None:
    """What the scanner says of a blob; '' if it is clean."""
    await tx.execute(
        "UPDATE media_blobs SET verdict = %(found)s WHERE blob_nid = %(blob)s", blob=blob_nid, found=found
    )


async def quarantine_blob(tx: Tx, blob_nid: int, by: str) -> int:
    """Nobody is given the files that hold this; how many these are."""
    return await tx.execute(
        "UPDATE media SET quarantined_by = %(by)s WHERE blob_nid = %(blob)s AND quarantined_by IS NULL",
        blob=blob_nid,
        by=by,
    )


async def note_used(tx: Tx, nids: Collection[int], now_ms: int, least_ms: int) -> None:
    """Files were looked at; written where the last time is `least_ms` ago."""
    await tx.execute(
        """
        UPDATE media SET last_used_ms = %(now)s WHERE media_nid = ANY(%(nids)s::bigint[])
              AND last_used_ms < %(before)s
        """,
        nids=sorted(nids),
        now=now_ms,
        before=now_ms - least_ms,
    )


# --- removing --------------------------------------------------------------------------------------------------------


async def delete(tx: Tx, nids: Collection[int]) -> list[Unkept]:
    """Remove rows, but for those that are held. What they referred to is left to `release_blobs`."""
    return await tx.rows(
        Unkept,
        """
        WITH gone AS (
            DELETE FROM media WHERE media_nid IN (
                SELECT media_nid FROM media WHERE media_nid = ANY(%(nids)s::bigint[]) AND NOT held ORDER BY media_nid FOR UPDATE
            ) RETURNING server_name, media_id, blob_nid, uploader_nid
        )
        SELECT g.server_name, g.media_id, g.blob_nid, g.uploader_nid, b.size
        FROM gone g LEFT JOIN media_blobs b USING (blob_nid)
        """,
        nids=list(nids),
    )


async def discharge(tx: Tx, user_nids: list[int], sizes: list[int]) -> None:
    """Files no longer count against quotas; the lists go together."""
    await tx.execute(
        """
        WITH per_user AS (
            SELECT user_nid, sum(greatest(size, %(least)s)) AS bytes, count(*) AS files
            FROM unnest(%(users)s::bigint[], %(sizes)s::bigint[]) AS f (user_nid, size) GROUP BY user_nid
        )
        UPDATE media_usage u SET bytes = greatest(u.bytes - p.bytes, 0), files = greatest(u.files - p.files, 0)
        FROM per_user p WHERE u.user_nid = p.user_nid
        """,
        users=user_nids,
        sizes=sizes,
        least=LEAST_CHARGED,
    )


async def release_blobs(tx: Tx, nids: list[int]) -> list[str]:
    """One file less for each number (which may repeat); the keys of blobs that no file holds any more, and
    of their thumbnails; their rows go.
    """
    await tx.all(
        "SELECT 1 FROM media_blobs WHERE blob_nid = ANY(%(nids)s::bigint[]) ORDER BY blob_nid FOR UPDATE",
        nids=nids,
    )
    await tx.execute(
        """
        UPDATE media_blobs b SET refs = b.refs - r.count
        FROM (SELECT blob_nid, count(*) FROM unnest(%(nids)s::bigint[]) AS f (blob_nid) GROUP BY blob_nid) r
        WHERE b.blob_nid = r.blob_nid
        """,
        nids=nids,
    )
    return await tx.column(
        """
        WITH gone AS (DELETE FROM media_blobs WHERE blob_nid = ANY(%(nids)s::bigint[]) AND refs <= 0 RETURNING blob_nid, key)
        SELECT key FROM gone UNION ALL SELECT t.key FROM media_thumbnails t JOIN gone USING (blob_nid) WHERE t.key IS NOT NULL
        """,
        nids=nids,
    )


async def find_expired(tx: Tx, before_ms: int, limit: int) -> list[int]:
    """Addresses nobody has uploaded to in time."""
    return await tx.column(
        "SELECT media_nid FROM media WHERE expires_ms < %(before)s ORDER BY expires_ms LIMIT %(limit)s",
        before=before_ms,
        limit=limit,
    )


async def find_known_keys(tx: Tx, keys: list[str]) -> set[str]:
    """Which of these keys of the blob store something refers to."""
    return set(
        await tx.column(
            """
            SELECT key FROM media_blobs WHERE key = ANY(%(keys)s::text[])
            UNION ALL SELECT key FROM media_thumbnails WHERE key = ANY(%(keys)s::text[])
            """,
            keys=keys,
        )
    )
