"""Durable cursors with leases: readers of the log that must run once in a cluster, and resume where they were acknowledged."""

from __future__ import annotations

from homeserver.log.entries import Position
from homeserver.storage.tx import Tx

LEASE_MS = 30_000
"""A reader that does not renew for this long is taken to be dead."""


async def take_lease(tx: Tx, name: str, owner: str, now_ms: int) -> Position | None:
    """Become (or stay) the only reader of that name for `LEASE_MS`. Returns its position, None if another holds it."""
    row = await tx.one(
        """
        INSERT INTO cursors (name, lease_owner, lease_until_ms) VALUES (%(name)s, %(owner)s, %(until)s)
        ON CONFLICT (name) DO UPDATE SET lease_owner = %(owner)s, lease_until_ms = %(until)s
            WHERE cursors.lease_owner = %(owner)s OR cursors.lease_until_ms < %(now)s
        RETURNING position
        """,
        name=name,
        owner=owner,
        until=now_ms + LEASE_MS,
        now=now_ms,
    )
    return None if row is None else int(row[0])


async def advance(tx: Tx, name: str, owner: str, position: Position) -> bool:
    """Record that the other side has acknowledged everything up to `position`. False if the lease was lost."""
    count = await tx.execute(
        """
        UPDATE cursors SET position = %(position)s
        WHERE name = %(name)s AND lease_owner = %(owner)s AND position <= %(position)s
        """,
        name=name,
        owner=owner,
        position=position,
    )
    return count == 1


async def release_lease(tx: Tx, name: str, owner: str) -> None:
    """Let another process go on at once."""
    await tx.execute(
        "UPDATE cursors SET lease_owner = NULL, lease_until_ms = 0 WHERE name = %(name)s AND lease_owner = %(owner)s",
        name=name,
        owner=owner,
    )
