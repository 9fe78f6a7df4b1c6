"""SQL of what is still to be done for users."""

from __future__ import annotations

from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Pipeline, Tx


def order(batch: Pipeline, kind: str, user_nid: int) -> None:
    """Have something done for the user as things are after this transaction. If it is under way, then once more."""
    batch.execute(
        """
        INSERT INTO account_tasks (kind, user_nid, version, lease_until_ms) VALUES (%(kind)s, %(user_nid)s, 1, 0)
        ON CONFLICT (kind, user_nid) DO UPDATE SET version = account_tasks.version + 1
        """,
        kind=kind,
        user_nid=user_nid,
    )


async def claim(
    tx: Tx, kind: str, user_nid: int, now_ms: int, lease_until_ms: int
) -> tuple[int, int, UserId] | None:
    """(version, attempts, user id) if it is to be done and nobody is on it."""
    row = await tx.one(
        """
        UPDATE account_tasks t SET lease_until_ms = %(until)s, attempts = attempts + 1 FROM users u
        WHERE kind = %(kind)s AND t.user_nid = %(user_nid)s AND u.user_nid = t.user_nid AND lease_until_ms <= %(now)s
        RETURNING version, attempts, user_id
        """,
        kind=kind,
        user_nid=user_nid,
        now=now_ms,
        until=lease_until_ms,
    )
    return None if row is None else (row[0], row[1], row[2])


async def exists(tx: Tx, kind: str, user_nid: int) -> bool:
    row = await tx.one(
        "SELECT 1 FROM account_tasks WHERE kind = %(kind)s AND user_nid = %(user_nid)s",
        kind=kind,
        user_nid=user_nid,
    )
    return row is not None


async def renew(tx: Tx, kind: str, user_nid: int, lease_until_ms: int) -> None:
    """Still on it; or, with a time that has passed, to be taken up again."""
    await tx.execute(
        """
        UPDATE account_tasks SET lease_until_ms = %(until)s WHERE kind = %(kind)s AND user_nid = %(user_nid)s
        """,
        kind=kind,
        user_nid=user_nid,
        until=lease_until_ms,
    )


async def finish(tx: Tx, kind: str, user_nid: int, version: int) -> bool:
    """False if it was ordered again meanwhile."""
    count = await tx.execute(
        """
        DELETE FROM account_tasks WHERE kind = %(kind)s AND user_nid = %(user_nid)s AND version = %(version)s
        """,
        kind=kind,
        user_nid=user_nid,
        version=version,
    )
    return count == 1


async def list_due(tx: Tx, now_ms: int, limit: int) -> list[tuple[str, int]]:
    """(kind, user_nid) of what nobody is on."""
    return [
        (kind, nid)
        for kind, nid in await tx.all(
            """
            SELECT kind, user_nid FROM account_tasks WHERE lease_until_ms <= %(now)s
            ORDER BY lease_until_ms LIMIT %(limit)s
            """,
            now=now_ms,
            limit=limit,
        )
    ]
