"""SQL of device tracking for clients that were away for long: what happened to memberships and encryption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Tx


class MemberRow(NamedTuple):
    """A membership that is news."""

    room_nid: int
    user_id: str
    membership: int
    before: bytes | None
    """The membership event it replaced as it is stored, if the reader knew that one already."""


async def find_member_changes(
    tx: Tx, reader: int, room_nids: Sequence[int], since: Position, upto: Position
) -> list[MemberRow]:
    """Of who changed in (since, upto]: in these rooms, and the reader anywhere."""
    return await tx.rows(
        MemberRow,
        """
        SELECT c.room_nid, u.user_id, c.membership, p.pdu FROM current_state c JOIN users u USING (user_nid)
        JOIN events e ON e.event_nid = c.event_nid
        LEFT JOIN events p ON p.event_nid = e.replaces AND p.event_nid <= %(since)s
        WHERE c.membership IS NOT NULL AND c.event_nid > %(since)s AND c.event_nid <= %(upto)s
          AND (c.room_nid = ANY(%(rooms)s::bigint[]) OR c.user_nid = %(reader)s)
        """,
        reader=reader,
        rooms=list(room_nids),
        since=since,
        upto=upto,
    )


async def find_newly_encrypted(
    tx: Tx, room_nids: Sequence[int], since: Position, upto: Position
) -> list[int]:
    """Those of the rooms whose encryption was set in (since, upto]."""
    return await tx.column(
        """
        SELECT c.room_nid FROM current_state c JOIN event_keys k USING (key_nid)
        WHERE k.type = 'm.room.encryption' AND k.state_key = '' AND c.room_nid = ANY(%(rooms)s::bigint[])
          AND c.event_nid > %(since)s AND c.event_nid <= %(upto)s
        """,
        rooms=list(room_nids),
        since=since,
        upto=upto,
    )
