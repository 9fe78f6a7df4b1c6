"""SQL of thumbnails."""

from __future__ import annotations

from homeserver.media.types import KeptThumbnail, ThumbnailBox
from homeserver.storage.tx import Tx


async def find(tx: Tx, blob_nid: int, box: ThumbnailBox) -> KeptThumbnail | None:
    """One that was made before."""
    return await tx.row(
        KeptThumbnail,
        """
        SELECT key, content_type, size FROM media_thumbnails
        WHERE blob_nid = %(blob)s AND width = %(width)s AND height = %(height)s AND crop = %(crop)s AND animated = %(animated)s
        """,
        blob=blob_nid,
        **box._asdict(),
    )


async def find_fault(tx: Tx, blob_nid: int) -> str | None:
    """Why no thumbnail can be made of a blob; None if nothing is known against it."""
    fault: str | None = await tx.value(
        "SELECT picture_fault FROM media_blobs WHERE blob_nid = %(blob)s", blob=blob_nid
    )
    return fault


async def note_fault(tx: Tx, blob_nid: int, fault: str) -> None:
    """No thumbnail can be made of a blob."""
    await tx.execute(
        "UPDATE media_blobs SET picture_fault = %(fault)s WHERE blob_nid = %(blob)s",
        blob=blob_nid,
        fault=fault,
    )


async def insert(tx: Tx, blob_nid: int, box: ThumbnailBox, made: KeptThumbnail, now_ms: int) -> bool:
    """Keep one; False if there is one, or the blob is gone."""
    return bool(
        await tx.execute(
            """
            INSERT INTO media_thumbnails (blob_nid, width, height, crop, animated, key, content_type, size, made_ms)
            SELECT blob_nid, %(width)s, %(height)s, %(crop)s, %(animated)s, %(key)s, %(type)s, %(size)s, %(now)s
            FROM media_blobs WHERE blob_nid = %(blob)s FOR SHARE
            ON CONFLICT DO NOTHING
            """,
            blob=blob_nid,
            **box._asdict(),
            key=made.key,
            type=made.content_type,
            size=made.size,
            now=now_ms,
        )
    )


async def delete_oldest(tx: Tx, blob_nid: int, keep: int) -> list[str]:
    """All thumbnails of a blob but the newest; the keys they had in the blob store."""
    keys = await tx.column(
        """
        DELETE FROM media_thumbnails WHERE (blob_nid, width, height, crop, animated) IN (
            SELECT blob_nid, width, height, crop, animated FROM media_thumbnails
            WHERE blob_nid = %(blob)s ORDER BY made_ms DESC OFFSET %(keep)s
        ) RETURNING key
        """,
        blob=blob_nid,
        keep=keep,
    )
    return [key for key in keys if key is not None]
