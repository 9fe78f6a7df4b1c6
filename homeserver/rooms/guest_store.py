"""SQL of guest access: which guests are in a room, and in which rooms there are any."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Tx


class GuestRoom(NamedTuple):
    """A room that guests are in."""

    room_nid: int
    guest_access: int | None
    """The event that says whether they may."""


async def find_guests(tx: Tx, user_nids: Collection[int]) -> list[UserId]:
    """Those of the users who are guests."""
    return await tx.column(
        """
        SELECT u.user_id FROM accounts a JOIN users u USING (user_nid)
        WHERE a.is_guest AND a.user_nid = ANY(%(users)s::bigint[]) ORDER BY a.user_nid
        """,
        users=list(user_nids),
    )


async def find_guest_rooms(tx: Tx, above: int, limit: int) -> list[GuestRoom]:
    """Rooms with a number above this that guests are joined to, in order."""
    return await tx.rows(
        GuestRoom,
        """
        SELECT r.room_nid, g.event_nid FROM (
            SELECT DISTINCT c.room_nid FROM accounts a JOIN current_state c USING (user_nid)
            WHERE a.is_guest AND c.membership = 1 AND c.room_nid > %(above)s
            ORDER BY c.room_nid LIMIT %(limit)s
        ) r LEFT JOIN (
            current_state g JOIN event_keys k ON k.key_nid = g.key_nid
                AND k.type = 'm.room.guest_access' AND k.state_key = ''
        ) ON g.room_nid = r.room_nid
        ORDER BY r.room_nid
        """,
        above=above,
        limit=limit,
    )
