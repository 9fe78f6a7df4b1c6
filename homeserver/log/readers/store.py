"""SQL of readers: leases by the database's clock, scan positions, cursors."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline, Tx


class CursorRow(NamedTuple):
    """A cursor that is behind, failing, or ahead of its reader's scan position."""

    key: str
    position: Position
    """Acknowledged up to here."""
    failures: int
    """In a row."""
    wait: float
    """Seconds until it is tried again; 0 or less: now."""


class Status(NamedTuple):
    """A reader as the database knows it."""

    name: str
    position: Position
    """Of its scan."""
    owner: str | None
    """The process that holds its lease."""
    lease_ended: float
    """Seconds since the lease ran out; negative while it holds."""
    behind: int
    """Cursors with something to deliver."""
    failing: int
    """Cursors whose last delivery failed."""
    oldest: Position
    """Everything up to here is acknowledged by all."""


async def declare(tx: Tx, names: Sequence[str], positions: Sequence[Position], hold: Sequence[bool]) -> None:
    """Make rows for readers that have none yet. `hold`: whether cursors that are behind hold back what is purged."""
    await tx.execute(
        """
        INSERT INTO log_readers (name, position, hold)
        SELECT * FROM unnest(%(names)s::text[], %(positions)s::bigint[], %(hold)s::bool[])
        ON CONFLICT (name) DO UPDATE SET hold = excluded.hold WHERE log_readers.hold <> excluded.hold
        """,
        names=list(names),
        positions=list(positions),
        hold=list(hold),
    )


def relax_commit(batch: Pipeline) -> None:
    """What follows need not survive a crash of the database: a lease is renewed anyhow, and what is looked through again from
    an older position comes again only as far as nobody had recorded it. (What was committed before is on the disk before it.)
    """
    batch.execute("SET LOCAL synchronous_commit = off")


def renew_leases(
    batch: Pipeline, names: Collection[str], owner: str, lease: float
) -> Later[list[tuple[str]]]:
    """Keep leases for `lease` seconds from now. The result names those that are still ours."""
    return batch.all(
        """
        UPDATE log_readers SET lease_until = clock_timestamp() + %(lease)s * interval '1 second'
        WHERE name = ANY(%(names)s::text[]) AND owner = %(owner)s RETURNING name
        """,
        names=sorted(names),
        owner=owner,
        lease=lease,
    )


def take_leases(
    batch: Pipeline, names: Collection[str], owner: str, lease: float, limit: int
) -> Later[list[tuple[str, Position]]]:
    """Become the only one, for `lease` seconds, to run some of these readers, if their leases are free. At most `limit`.

    The result names those that were had, with their scan positions.
    """
    return batch.all(
        """
        UPDATE log_readers r SET owner = %(owner)s, lease_until = clock_timestamp() + %(lease)s * interval '1 second'
        FROM (
            SELECT name FROM log_readers
            WHERE name = ANY(%(names)s::text[]) AND (owner IS NULL OR lease_until <= clock_timestamp())
            ORDER BY name LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ) free
        WHERE r.name = free.name RETURNING r.name, r.position
        """,
        names=sorted(names),
        owner=owner,
        lease=lease,
        limit=limit,
    )


async def release_leases(tx: Tx, owner: str) -> None:
    """Let other processes go on at once."""
    await tx.execute(
        "UPDATE log_readers SET owner = NULL, lease_until = NULL WHERE owner = %(owner)s", owner=owner
    )


async def find_cursors(tx: Tx, name: str) -> list[CursorRow]:
    return await tx.rows(
        CursorRow,
        """
        SELECT key, position, failures, coalesce(extract(epoch FROM retry_at - clock_timestamp())::float8, 0)
        FROM log_cursors WHERE reader = %(name)s
        """,
        name=name,
    )


def write_cursors(batch: Pipeline, name: str, owner: str, rows: Sequence[CursorRow]) -> Later[int]:
    """Record how far cursors are acknowledged, and when those that fail are tried again. A position never goes back.

    The result is the number of rows written: none if the lease is not ours.
    """
    return batch.execute(
        """
        INSERT INTO log_cursors AS c (reader, key, position, failures, retry_at)
        SELECT %(name)s, key, position, failures,
               CASE WHEN failures > 0 THEN clock_timestamp() + wait * interval '1 second' END
        FROM unnest(%(keys)s::text[], %(positions)s::bigint[], %(failures)s::int[], %(waits)s::float8[])
             AS rows (key, position, failures, wait)
        WHERE EXISTS (SELECT 1 FROM log_readers WHERE name = %(name)s AND owner = %(owner)s)
        ON CONFLICT (reader, key) DO UPDATE SET position = greatest(c.position, excluded.position),
            failures = excluded.failures, retry_at = excluded.retry_at
        """,
        name=name,
        owner=owner,
        keys=[row.key for row in rows],
        positions=[row.position for row in rows],
        failures=[row.failures for row in rows],
        waits=[row.wait for row in rows],
    )


def delete_cursors(batch: Pipeline, name: str, owner: str, keys: Sequence[str]) -> None:
    """Forget cursors that have nothing left before the scan position. After `write_scan`, which holds the lease's row."""
    batch.execute(
        """
        DELETE FROM log_cursors WHERE reader = %(name)s AND key = ANY(%(keys)s::text[])
            AND EXISTS (SELECT 1 FROM log_readers WHERE name = %(name)s AND owner = %(owner)s)
        """,
        name=name,
        owner=owner,
        keys=list(keys),
    )


def write_scan(batch: Pipeline, name: str, owner: str, position: Position) -> Later[int]:
    """Move the scan position. Until the transaction ends nobody can take the lease. The result: 0 if it is not ours."""
    return batch.execute(
        "UPDATE log_readers SET position = %(position)s WHERE name = %(name)s AND owner = %(owner)s",
        name=name,
        owner=owner,
        position=position,
    )


async def find_due(tx: Tx, name: str, limit: int) -> list[str]:
    """Keys of failing cursors that are due by now."""
    return await tx.column(
        """
        SELECT key FROM log_cursors
        WHERE reader = %(name)s AND failures > 0 AND retry_at <= clock_timestamp() ORDER BY retry_at LIMIT %(limit)s
        """,
        name=name,
        limit=limit,
    )


async def find_failing(tx: Tx, name: str, limit: int) -> list[CursorRow]:
    """Cursors whose last delivery failed, those that fail longest first."""
    return await tx.rows(
        CursorRow,
        """
        SELECT key, position, failures, coalesce(extract(epoch FROM retry_at - clock_timestamp())::float8, 0)
        FROM log_cursors WHERE reader = %(name)s AND failures > 0 ORDER BY failures DESC, key LIMIT %(limit)s
        """,
        name=name,
        limit=limit,
    )


async def retry_now(tx: Tx, name: str, key: str | None) -> int:
    """Let whoever runs the reader try failing cursors again at once: that of a key, or all. Returns how many."""
    return await tx.execute(
        """
        UPDATE log_cursors SET retry_at = clock_timestamp()
        WHERE reader = %(name)s AND failures > 0 AND (key = %(key)s::text OR %(key)s::text IS NULL)
        """,
        name=name,
        key=key,
    )


async def find_floor(tx: Tx) -> Position | None:
    """Every reader's every cursor that holds has passed this position; None: there are no readers.

    What readers read may be purged up to here, never beyond.
    """
    value = await tx.value(
        """
        SELECT least((SELECT min(position) FROM log_readers),
                     (SELECT min(c.position) FROM log_cursors c JOIN log_readers r ON r.name = c.reader WHERE r.hold))
        """
    )
    return None if value is None else int(value)


async def list_readers(tx: Tx) -> list[Status]:
    """All readers that ever ran here, by name."""
    return await tx.rows(
        Status,
        """
        SELECT r.name, r.position, r.owner,
               coalesce(extract(epoch FROM clock_timestamp() - r.lease_until)::float8, 0),
               count(c.key) FILTER (WHERE c.position < r.position), count(c.key) FILTER (WHERE c.failures > 0),
               least(r.position, min(c.position))
        FROM log_readers r LEFT JOIN log_cursors c ON c.reader = r.name GROUP BY r.name ORDER BY r.name
        """,
    )


async def forget(tx: Tx, name: str) -> bool:
    """Forget a reader that is no longer declared anywhere, with its cursors. False: there was none."""
    await tx.execute("DELETE FROM log_cursors WHERE reader = %(name)s", name=name)
    return await tx.execute("DELETE FROM log_readers WHERE name = %(name)s", name=name) == 1
