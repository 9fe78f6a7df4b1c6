"""SQL of server notices."""

from __future__ import annotations

from homeserver.notices.types import Told
from homeserver.storage.tx import Tx


async def find_room(tx: Tx, user_nid: int) -> int | None:
    """room_nid of the user's notices room."""
    found: int | None = await tx.value(
        "SELECT room_nid FROM server_notice_rooms WHERE user_nid = %(user)s", user=user_nid
    )
    return found


async def put_room(tx: Tx, user_nid: int, room_nid: int) -> int:
    """Keep the user's room; returns it, or that of who was quicker."""
    found: int = await tx.value(
        """
        INSERT INTO server_notice_rooms AS r (user_nid, room_nid) VALUES (%(user)s, %(room)s)
        ON CONFLICT (user_nid) DO UPDATE SET room_nid = r.room_nid RETURNING room_nid
        """,
        user=user_nid,
        room=room_nid,
    )
    return found


async def delete_of_user(tx: Tx, user_nid: int) -> None:
    """Their account has ended."""
    await tx.execute("DELETE FROM server_notice_rooms WHERE user_nid = %(user)s", user=user_nid)
    await tx.execute("DELETE FROM usage_notices WHERE user_nid = %(user)s", user=user_nid)


async def find_untold(tx: Tx, since_ms: int, limit: int) -> list[tuple[int, str]]:
    """(user_nid, user_id) of at most `limit` people who were seen since and have not been told that a limit is reached."""
    return await tx.all(
        """
        SELECT a.user_nid, u.user_id FROM accounts a JOIN users u USING (user_nid)
        WHERE NOT a.is_guest AND a.appservice_id IS NULL AND a.user_type IS NULL AND a.deactivated_ms IS NULL
              AND EXISTS (SELECT FROM devices d WHERE d.user_nid = a.user_nid
                          AND greatest(d.last_seen_ms, d.created_ms) >= %(since)s)
              AND NOT EXISTS (SELECT FROM usage_notices n WHERE n.user_nid = a.user_nid)
        ORDER BY a.user_nid LIMIT %(limit)s
        """,
        since=since_ms,
        limit=limit,
    )


async def find_told(tx: Tx, limit: int) -> list[Told]:
    """At most `limit` people who have been told."""
    return await tx.rows(
        Told, "SELECT user_nid, event_id FROM usage_notices ORDER BY user_nid LIMIT %(limit)s", limit=limit
    )


async def claim_telling(tx: Tx, user_nid: int) -> bool:
    """Whether nobody has told them, or is about to."""
    return bool(
        await tx.execute(
            "INSERT INTO usage_notices (user_nid) VALUES (%(user)s) ON CONFLICT DO NOTHING", user=user_nid
        )
    )


async def put_told(tx: Tx, user_nid: int, event_id: str) -> None:
    """They have been told."""
    await tx.execute(
        "UPDATE usage_notices SET event_id = %(event)s WHERE user_nid = %(user)s",
        user=user_nid,
        event=event_id,
    )


async def delete_told(tx: Tx, user_nid: int) -> None:
    """It is over."""
    await tx.execute("DELETE FROM usage_notices WHERE user_nid = %(user)s", user=user_nid)
