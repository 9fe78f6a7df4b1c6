"""SQL of the list of published rooms, and of the search for people."""

from __future__ import annotations

from homeserver.matrix import json
from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Tx

MAX_PUBLISHED = 20_000
"""Rooms the list is made of."""


async def list_published(tx: Tx, network: str | None) -> list[int]:
    """room_nids of a network's list; None: of all lists."""
    return await tx.column(
        """
        SELECT room_nid FROM published_rooms WHERE %(all)s OR network = %(network)s ORDER BY room_nid LIMIT %(limit)s
        """,
        all=network is None,
        network=network or "",
        limit=MAX_PUBLISHED,
    )


async def is_published(tx: Tx, room_nid: int) -> bool:
    row = await tx.one(
        "SELECT 1 FROM published_rooms WHERE room_nid = %(room)s AND network = ''", room=room_nid
    )
    return row is not None


async def publish(tx: Tx, room_nid: int) -> None:
    await tx.execute(
        "INSERT INTO published_rooms (room_nid) VALUES (%(room)s) ON CONFLICT DO NOTHING", room=room_nid
    )


async def unpublish(tx: Tx, room_nid: int) -> None:
    await tx.execute("DELETE FROM published_rooms WHERE room_nid = %(room)s", room=room_nid)


async def find_users(
    tx: Tx, term: str, *, asker_nid: int, everybody: bool, limit: int
) -> list[tuple[UserId, bytes | None]]:
    """(user id, profile as JSON) of local people whose id or profile has the term (lower case) in it, best match first.

    A match in the profile may be one in another field than the name: look again. Without `everybody`, only who shares
    a room with the asker, or is in a room of the list.
    """
    in_json = json.dumps(term).decode()[1:-1]  # as a quotation mark stands in a profile
    return await tx.all(
        """
        SELECT user_id, fields FROM accounts a JOIN users USING (user_nid) LEFT JOIN profiles USING (user_nid)
        WHERE deactivated_ms IS NULL AND NOT is_guest AND NOT locked
          AND (lower(split_part(user_id, ':', 1)) LIKE %(pattern)s OR lower(user_id) = %(term)s
               OR lower(convert_from(fields, 'UTF8')) LIKE %(in_json)s)
          AND (%(everybody)s OR user_nid = %(asker)s OR EXISTS (
                SELECT 1 FROM current_state theirs WHERE theirs.user_nid = a.user_nid AND theirs.membership = 1
                  AND (theirs.room_nid IN (SELECT room_nid FROM published_rooms) OR theirs.room_nid IN (
                        SELECT room_nid FROM current_state mine WHERE mine.user_nid = %(asker)s AND mine.membership = 1))))
        ORDER BY split_part(user_id, ':', 1) IN (%(term)s, '@' || %(term)s) DESC, length(user_id), user_id
        LIMIT %(limit)s
        """,
        pattern=_anywhere(term),
        in_json=_anywhere(in_json),
        term=term,
        everybody=everybody,
        asker=asker_nid,
        limit=limit,
    )


def _anywhere(text: str) -> str:
    """The LIKE pattern of what has the text in it."""
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
