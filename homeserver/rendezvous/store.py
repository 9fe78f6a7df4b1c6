"""SQL of places to meet. Times in ms since 1970."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.storage.tx import Tx


class Place(NamedTuple):
    """What lies there."""

    data: str
    version: int
    expires_ms: int


async def insert(tx: Tx, place_id: str, data: str, expires_ms: int, now_ms: int, most: int) -> bool:  # noqa: PLR0917  # one value each
    """False if there are `most` already that have not expired."""
    count = await tx.execute(
        """
        INSERT INTO rendezvous (id, data, version, expires_ms)
        SELECT %(id)s, %(data)s, 1, %(expires)s
        WHERE (SELECT count(*) FROM rendezvous WHERE expires_ms > %(now)s) < %(most)s
        """,
        id=place_id,
        data=data,
        expires=expires_ms,
        now=now_ms,
        most=most,
    )
    return count == 1


async def find(tx: Tx, place_id: str, now_ms: int) -> Place | None:
    """None: there is none, or no more."""
    return await tx.row(
        Place,
        "SELECT data, version, expires_ms FROM rendezvous WHERE id = %(id)s AND expires_ms > %(now)s",
        id=place_id,
        now=now_ms,
    )


async def replace(tx: Tx, place_id: str, data: str, version: int, now_ms: int) -> bool:
    """Whether what lay there had this version, and the data lies there now, as the next one."""
    count = await tx.execute(
        """
        UPDATE rendezvous SET data = %(data)s, version = version + 1
        WHERE id = %(id)s AND version = %(version)s AND expires_ms > %(now)s
        """,
        id=place_id,
        data=data,
        version=version,
        now=now_ms,
    )
    return count == 1


async def delete(tx: Tx, place_id: str, now_ms: int) -> bool:
    """Whether it was there."""
    count = await tx.execute(
        "DELETE FROM rendezvous WHERE id = %(id)s AND expires_ms > %(now)s", id=place_id, now=now_ms
    )
    return count == 1


async def delete_expired(tx: Tx, now_ms: int) -> None:
    """Those that nobody can ask for any more."""
    await tx.execute("DELETE FROM rendezvous WHERE expires_ms <= %(now)s", now=now_ms)
