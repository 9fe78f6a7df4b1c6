"""All events of a room by number, whether or not anybody may see them: for administrators."""

from __future__ import annotations

from homeserver.storage.tx import Tx


async def newest_before(tx: Tx, room_nid: int, before: int, limit: int) -> list[int]:
    """At most so many, newest first."""
    return await tx.column(
        """
        SELECT event_nid FROM events WHERE room_nid = %(room)s AND event_nid < %(before)s ORDER BY event_nid DESC LIMIT %(limit)s
        """,
        room=room_nid,
        before=before,
        limit=limit,
    )
