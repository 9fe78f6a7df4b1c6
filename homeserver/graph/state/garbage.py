"""Takes away states that nothing stands on any more: no event, no room, no other state.

Where branches meet, every event makes a state for the room, and the one before is soon nobody's. What such a state says is
folded into the one that was built on it. Safe beside writers of any process: one that has found a state here and is about
to point at it holds the row (`EventSink.check`), and looks whether it is still there.
"""

from __future__ import annotations

from typing import NamedTuple

from homeserver.graph.state.rows import FIRST_RESOLVED, Row, folded, lock_upkeep, write_shortcut
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

BATCH = 200
"""States looked at in one transaction."""
MAX_COPIES = 64
"""Entries that may be written once more, when several states were built on one that goes."""


class Swept(NamedTuple):
    """What one batch came to."""

    looked_at: int
    deleted: int
    last: int | None
    """Where the next batch goes on; None at the end."""


async def sweep(db: Database, below: int = FIRST_RESOLVED + 1, limit: int = BATCH) -> Swept:
    """Look at states made by resolution, newest numbers last, from below a number on; delete those nobody needs."""
    async with db.transaction() as tx:
        await lock_upkeep(tx)
        nids = await _next(tx, below, limit)
        if not nids:
            return Swept(0, 0, None)
        # Whoever holds one of these rows is about to refer to it. Only a later statement sees that it has.
        await tx.all(
            "SELECT state_nid FROM state WHERE state_nid = ANY(%(nids)s::bigint[]) ORDER BY state_nid FOR UPDATE",
            nids=nids,
        )
        deleted = 0
        for nid in await _unreferenced(tx, nids):
            deleted += await _delete(tx, nid)
    return Swept(len(nids), deleted, nids[-1])


async def sweep_shortcuts(db: Database, above: int = -(2**63), limit: int = BATCH) -> Swept:
    """Look at shortcuts of events, lowest first; delete those whose event is gone or has no state after it."""
    async with db.transaction() as tx:
        await lock_upkeep(tx)
        nids = await tx.column(
            """
            SELECT state_nid FROM state WHERE state_nid > greatest(%(above)s::bigint, %(first)s::bigint)
            ORDER BY state_nid LIMIT %(limit)s
            """,
            above=above,
            first=FIRST_RESOLVED,
            limit=limit,
        )
        if not nids:
            return Swept(0, 0, None)
        deleted = await tx.execute(
            """
            DELETE FROM state s WHERE s.state_nid = ANY(%(nids)s::bigint[])
              AND NOT EXISTS (SELECT 1 FROM events e WHERE e.event_nid = s.state_nid AND e.key_nid IS NOT NULL
                                                           AND e.flags & 5 = 0)
              AND NOT EXISTS (SELECT 1 FROM state c WHERE c.parent = s.state_nid)
              AND NOT EXISTS (SELECT 1 FROM events e WHERE e.room_nid = s.room_nid AND e.state_nid = s.state_nid)
              AND NOT EXISTS (SELECT 1 FROM rooms r WHERE r.room_nid = s.room_nid AND r.state_nid = s.state_nid)
            """,
            nids=nids,
        )
    return Swept(len(nids), deleted, nids[-1])


async def _next(tx: Tx, below: int, limit: int) -> list[int]:
    return await tx.column(
        """
        SELECT state_nid FROM state WHERE state_nid < least(%(below)s::bigint, %(first)s::bigint + 1)
        ORDER BY state_nid DESC LIMIT %(limit)s
        """,
        below=below,
        first=FIRST_RESOLVED,
        limit=limit,
    )


async def _unreferenced(tx: Tx, nids: list[int]) -> list[int]:
    """Those that no event and no room stands on; other states may."""
    return await tx.column(
        """
        SELECT s.state_nid FROM state s WHERE s.state_nid = ANY(%(nids)s::bigint[])
          AND NOT EXISTS (SELECT 1 FROM events e WHERE e.state_nid = s.state_nid
                                                       AND e.state_nid <= -4611686018427387904)
          AND NOT EXISTS (SELECT 1 FROM rooms r WHERE r.room_nid = s.room_nid AND r.state_nid = s.state_nid)
        ORDER BY s.state_nid DESC
        """,
        nids=nids,
    )


async def _delete(tx: Tx, nid: int) -> bool:
    """Delete one state, folded into those built on it; False if that would cost more than it gives."""
    rows = await tx.all(
        """
        SELECT state_nid, room_nid, parent, height, reach, keys, events, false FROM state
        WHERE state_nid = %(nid)s OR parent = %(nid)s
        """,
        nid=nid,
    )
    links = {row[0]: Row(*row) for row in rows}
    own = links.pop(nid)
    if len(links) > 1 and len(own.keys) * len(links) > MAX_COPIES:
        return False
    for child in links.values():
        await write_shortcut(tx, folded([child, own]))
    await tx.execute("DELETE FROM state WHERE state_nid = %(nid)s", nid=nid)
    return True
