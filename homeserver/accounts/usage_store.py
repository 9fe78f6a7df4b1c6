"""SQL of who uses the server. Times in ms since 1970."""

from __future__ import annotations

from homeserver.storage.tx import Tx


async def count_active(tx: Tx, since_ms: int) -> int:
    """People with an account of their own who were seen since: no guests, no users of application services or of the server."""
    found: int = await tx.value(
        """
        SELECT count(*) FROM accounts a
        WHERE NOT is_guest AND appservice_id IS NULL AND user_type IS NULL AND deactivated_ms IS NULL
              AND EXISTS (SELECT FROM devices d WHERE d.user_nid = a.user_nid
                          AND greatest(d.last_seen_ms, d.created_ms) >= %(since)s)
        """,
        since=since_ms,
    )
    return found


async def is_active(tx: Tx, user_nid: int, since_ms: int) -> bool:
    """Whether one of them is."""
    found: bool = await tx.value(
        """
        SELECT EXISTS (SELECT FROM devices WHERE user_nid = %(user)s AND greatest(last_seen_ms, created_ms) >= %(since)s)
        """,
        user=user_nid,
        since=since_ms,
    )
    return found
