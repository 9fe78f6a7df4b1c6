"""SQL of previews."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.storage.tx import Tx


class KeptPreview(NamedTuple):
    """What is known of a page."""

    properties: bytes | None
    """JSON; None: the page could not be had."""


async def find(tx: Tx, url_sha256: bytes, now_ms: int) -> KeptPreview | None:
    """The preview of a page that is not too old."""
    return await tx.row(
        KeptPreview,
        "SELECT properties FROM url_previews WHERE url_sha256 = %(url)s AND expires_ms > %(now)s",
        url=url_sha256,
        now=now_ms,
    )


async def upsert(tx: Tx, url_sha256: bytes, properties: bytes | None, expires_ms: int) -> None:
    """Keep the preview of a page."""
    await tx.execute(
        """
        INSERT INTO url_previews (url_sha256, properties, expires_ms) VALUES (%(url)s, %(properties)s, %(expires)s)
        ON CONFLICT (url_sha256) DO UPDATE SET properties = excluded.properties, expires_ms = excluded.expires_ms
        """,
        url=url_sha256,
        properties=properties,
        expires=expires_ms,
    )


async def delete_expired(tx: Tx, now_ms: int) -> int:
    """Forget what is too old; how many they were."""
    return await tx.execute("DELETE FROM url_previews WHERE expires_ms <= %(now)s", now=now_ms)
