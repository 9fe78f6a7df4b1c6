"""Events of a room by number, whoever may see them."""

from __future__ import annotations

from collections.abc import Collection

from homeserver.storage.tx import Tx


async def newest_before(tx: Tx, room_nid: int, before: int, limit: int) -> list[int]:
    """All events, hidden ones too, at most so many, newest first."""
    return await tx.column(
        """
        SELECT event_nid FROM events WHERE room_nid = %(room)s AND event_nid < %(before)s ORDER BY event_nid DESC LIMIT %(limit)s
        """,
        room=room_nid,
        before=before,
        limit=limit,
    )


async def newest_of_keys(tx: Tx, room_nid: int, key_nids: Collection[int], limit: int) -> list[int]:
    """State events that set one of some keys and that clients are shown, at most so many, newest first."""
    return await tx.column(
        """
        SELECT event_nid FROM events
        WHERE room_nid = %(room)s AND key_nid IS NOT NULL AND key_nid = ANY(%(keys)s::int[]) AND flags = 0
        ORDER BY event_nid DESC LIMIT %(limit)s
        """,
        room=room_nid,
        keys=list(key_nids),
        limit=limit,
    )
