"""SQL of hierarchies that are being paged through."""

from __future__ import annotations

from homeserver.storage.tx import Pipeline, Tx


def insert_walk(batch: Pipeline, token: bytes, user_nid: int, made_ms: int, state: bytes) -> None:
    """How far a user has come."""
    batch.execute(
        """
        INSERT INTO space_walks (token, user_nid, made_ms, state)
        VALUES (%(token)s, %(user)s, %(made)s, %(state)s)
        """,
        token=token,
        user=user_nid,
        made=made_ms,
        state=state,
    )


def delete_older(batch: Pipeline, user_nid: int, most: int) -> None:
    """Of a user the newest `most` stay."""
    batch.execute(
        """
        DELETE FROM space_walks WHERE token IN (
            SELECT token FROM space_walks WHERE user_nid = %(user)s ORDER BY made_ms DESC, token OFFSET %(most)s)
        """,
        user=user_nid,
        most=most,
    )


async def find_walk(tx: Tx, token: bytes, user_nid: int, since_ms: int) -> bytes | None:
    """The state that a token of this user names, if it was made at `since_ms` or later."""
    return await tx.value(  # type: ignore[no-any-return]  # bytea
        "SELECT state FROM space_walks WHERE token = %(token)s AND user_nid = %(user)s AND made_ms >= %(since)s",
        token=token,
        user=user_nid,
        since=since_ms,
    )


async def delete_before(tx: Tx, before_ms: int) -> None:
    """What nobody goes on with any more."""
    await tx.execute("DELETE FROM space_walks WHERE made_ms < %(before)s", before=before_ms)
