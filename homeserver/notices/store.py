"""SQL of server notices."""

from __future__ import annotations

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
