"""SQL of jobs. All times are the database's; durations in seconds.

`due_at` is when somebody may begin a job, and while somebody is on it, when their lease ends: so a job whose process was
killed is found like any other that is due.
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.jobs.types import Backlog, Claimed
from homeserver.storage.tx import Later, Pipeline, Tx

KEEP_FAILED_DAYS, KEEP_FAILED = 7, 10_000
"""How long jobs that were given up are kept to be looked at, and how many."""


def insert(  # noqa: PLR0917  # the columns of a row
    batch: Pipeline, kind: str, key: str | None, payload: bytes, after: float, most: int | None
) -> Later[int]:
    """1, or 0 where `most` jobs of the kind wait already. One of the same kind and key is replaced: if somebody is on it,
    it is done once more afterwards.
    """
    return batch.execute(
        """
        INSERT INTO jobs AS j (kind, key, payload, due_at)
        SELECT %(kind)s, %(key)s, %(payload)s, statement_timestamp() + %(after)s * interval '1 second'
        WHERE %(most)s::int IS NULL OR (
            SELECT count(*) FROM (
                SELECT FROM jobs w WHERE w.kind = %(kind)s AND w.failed_at IS NULL LIMIT %(most)s::int
            ) waiting
        ) < %(most)s::int
        ON CONFLICT (kind, key) DO UPDATE SET payload = excluded.payload, version = j.version + 1, attempts = 0,
            due_at = CASE WHEN j.owner IS NULL THEN excluded.due_at ELSE j.due_at END, cause = NULL, failed_at = NULL
        """,
        kind=kind,
        key=key,
        payload=payload,
        after=after,
        most=most,
    )


async def claim(tx: Tx, owner: str, free: Sequence[tuple[str, int]], lease: float) -> list[Claimed]:
    """Take jobs that are due, of each kind at most so many, those that wait longest first."""
    return await tx.rows(
        Claimed,
        """
        WITH next AS (
            SELECT due.job_nid
            FROM unnest(%(kinds)s::text[], %(free)s::int[]) AS k (kind, free) CROSS JOIN LATERAL (
                SELECT job_nid FROM jobs
                WHERE jobs.kind = k.kind AND due_at <= statement_timestamp() AND failed_at IS NULL
                ORDER BY due_at LIMIT k.free FOR UPDATE SKIP LOCKED
            ) due
        )
        UPDATE jobs j SET owner = %(owner)s, attempts = attempts + 1,
            due_at = statement_timestamp() + %(lease)s * interval '1 second'
        FROM next WHERE j.job_nid = next.job_nid
        RETURNING j.job_nid, kind, key, payload, version, attempts,
                  extract(epoch FROM statement_timestamp() - made_at)::float8
        """,
        owner=owner,
        kinds=[kind for kind, _ in free],
        free=[count for _, count in free],
        lease=lease,
    )


async def renew(tx: Tx, owner: str, job_nids: Sequence[int], lease: float) -> set[int]:
    """Stay on these for `lease` seconds from now. Returns those that are still ours."""
    return set(
        await tx.column(
            """
            UPDATE jobs SET due_at = statement_timestamp() + %(lease)s * interval '1 second'
            WHERE job_nid = ANY(%(nids)s::bigint[]) AND owner = %(owner)s RETURNING job_nid
            """,
            owner=owner,
            nids=list(job_nids),
            lease=lease,
        )
    )


def finish(batch: Pipeline, owner: str, job: Claimed) -> tuple[Later[int], Later[int]]:
    """(1 if the job is gone, 1 if it was deferred again meanwhile and is due now); both 0: it is another's by now."""
    gone = batch.execute(
        "DELETE FROM jobs WHERE job_nid = %(nid)s AND owner = %(owner)s AND version = %(version)s",
        nid=job.job_nid,
        owner=owner,
        version=job.version,
    )
    again = batch.execute(
        """
        UPDATE jobs SET owner = NULL, attempts = 0, due_at = statement_timestamp()
        WHERE job_nid = %(nid)s AND owner = %(owner)s AND version <> %(version)s
        """,
        nid=job.job_nid,
        owner=owner,
        version=job.version,
    )
    return gone, again


def put_back(batch: Pipeline, owner: str, job: Claimed, pause: float | None, cause: str) -> Later[int]:
    """It has failed: to be tried again in `pause` seconds, or (None) given up. At once if it was deferred again meanwhile."""
    return batch.execute(
        """
        UPDATE jobs SET owner = NULL, cause = %(cause)s,
            due_at = CASE WHEN version = %(version)s
                THEN statement_timestamp() + coalesce(%(pause)s::float8, 0) * interval '1 second'
                ELSE statement_timestamp() END,
            failed_at = CASE WHEN version = %(version)s AND %(pause)s::float8 IS NULL THEN statement_timestamp() END
        WHERE job_nid = %(nid)s AND owner = %(owner)s
        """,
        nid=job.job_nid,
        owner=owner,
        version=job.version,
        pause=pause,
        cause=cause,
    )


async def release(tx: Tx, owner: str, job_nids: Sequence[int]) -> None:
    """This process stops in the middle of these: others may begin them at once."""
    await tx.execute(
        """
        UPDATE jobs SET owner = NULL, attempts = greatest(attempts - 1, 0), due_at = statement_timestamp()
        WHERE job_nid = ANY(%(nids)s::bigint[]) AND owner = %(owner)s
        """,
        owner=owner,
        nids=list(job_nids),
    )


async def exists(tx: Tx, kind: str, key: str) -> bool:
    """Whether it is still to be done, or was given up."""
    row = await tx.one("SELECT 1 FROM jobs WHERE kind = %(kind)s AND key = %(key)s", kind=kind, key=key)
    return row is not None


async def list_backlogs(tx: Tx) -> list[Backlog]:
    """Of every kind of which there is a job."""
    return await tx.rows(
        Backlog,
        """
        SELECT kind, count(*) FILTER (WHERE failed_at IS NULL), count(failed_at),
            greatest(
                coalesce(extract(epoch FROM statement_timestamp() - min(due_at) FILTER (WHERE failed_at IS NULL)), 0), 0
            )::float8
        FROM jobs GROUP BY kind ORDER BY kind
        """,
    )


async def delete_failed(tx: Tx) -> int:
    """Forget jobs that were given up long ago, or are too many. Returns how many."""
    return await tx.execute(
        """
        DELETE FROM jobs WHERE failed_at < statement_timestamp() - %(days)s * interval '1 day' OR job_nid IN (
            SELECT job_nid FROM jobs WHERE failed_at IS NOT NULL ORDER BY failed_at DESC OFFSET %(most)s
        )
        """,
        days=KEEP_FAILED_DAYS,
        most=KEEP_FAILED,
    )
