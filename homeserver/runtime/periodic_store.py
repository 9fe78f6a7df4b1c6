"""SQL of periodic work that runs once in a cluster: who runs it, and when it is due. All times are the database's."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.storage.tx import Tx


class Turn(NamedTuple):
    """The answer to `claim`."""

    ours: bool
    wait: float
    """Seconds until it is worth asking again; 0 if it is ours."""
    failures: int
    """In a row, before this run, in whichever process."""


class Work(NamedTuple):
    """What is known of one piece of work; times in seconds before now."""

    name: str
    failures: int
    since_success: float | None
    """None: it has never succeeded."""
    overdue: float
    """How long it has been due and not running; negative: so long until it is due."""


async def claim(tx: Tx, name: str, owner: str, lease: float) -> Turn:
    """Become the one who runs it now, for `lease` seconds, if it is due and nobody else does."""
    row = await tx.one(
        """
        WITH taken AS (
            INSERT INTO periodic_work AS p (name, owner, lease_until)
            VALUES (%(name)s, %(owner)s, statement_timestamp() + %(lease)s * interval '1 second')
            ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
                WHERE p.due_at <= statement_timestamp()
                      AND (p.lease_until IS NULL OR p.lease_until <= statement_timestamp())
            RETURNING failures
        )
        SELECT taken.failures IS NOT NULL,
               coalesce(extract(epoch FROM greatest(w.due_at, w.lease_until) - statement_timestamp())::float8, 0),
               coalesce(taken.failures, w.failures, 0)
        FROM (SELECT 1) one LEFT JOIN taken ON true LEFT JOIN periodic_work w ON w.name = %(name)s
        """,
        name=name,
        owner=owner,
        lease=lease,
    )
    assert row is not None
    return Turn(row[0], 0.0 if row[0] else max(row[1], 0.0), row[2])


async def renew(tx: Tx, name: str, owner: str, lease: float) -> bool:
    """Keep it for `lease` seconds from now. False: it is another's by now."""
    count = await tx.execute(
        """
        UPDATE periodic_work SET lease_until = statement_timestamp() + %(lease)s * interval '1 second'
        WHERE name = %(name)s AND owner = %(owner)s
        """,
        name=name,
        owner=owner,
        lease=lease,
    )
    return count == 1


async def finish(tx: Tx, name: str, owner: str, pause: float, failures: int, *, succeeded: bool) -> None:
    """Give the lease up; the next run is due in `pause` seconds. Nothing happens if it is another's by now."""
    await tx.execute(
        """
        UPDATE periodic_work SET owner = NULL, lease_until = NULL, failures = %(failures)s,
            due_at = statement_timestamp() + %(pause)s * interval '1 second',
            succeeded_at = CASE WHEN %(succeeded)s THEN statement_timestamp() ELSE succeeded_at END
        WHERE name = %(name)s AND owner = %(owner)s
        """,
        name=name,
        owner=owner,
        pause=pause,
        failures=failures,
        succeeded=succeeded,
    )


async def list_work(tx: Tx) -> list[Work]:
    """All that was ever run, by name."""
    return await tx.rows(
        Work,
        """
        SELECT name, failures, extract(epoch FROM statement_timestamp() - succeeded_at)::float8,
               extract(epoch FROM statement_timestamp() - greatest(due_at, lease_until))::float8
        FROM periodic_work ORDER BY name
        """,
    )
