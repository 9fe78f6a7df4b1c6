"""SQL of pauses that processes share."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from homeserver.storage.tx import Tx


class PauseRow(NamedTuple):
    """A server that is left alone; `failures` 0: it has answered again. Times in Unix ms."""

    server_name: str
    failures: int
    since_ms: int
    failed_ms: int
    until_ms: int
    problem: str
    changed_ms: int


async def upsert_pauses(tx: Tx, rows: Collection[PauseRow]) -> None:
    """Write down what has changed; what another process has written later stays."""
    rows = sorted(rows)
    await tx.execute(
        """
        INSERT INTO federation_pauses AS p
            (server_name, failures, since_ms, failed_ms, until_ms, problem, changed_ms)
        SELECT * FROM unnest(
            %(names)s::text[], %(failures)s::integer[], %(since)s::bigint[], %(failed)s::bigint[], %(until)s::bigint[],
            %(problems)s::text[], %(changed)s::bigint[]
        )
        ON CONFLICT (server_name) DO UPDATE SET
            failures = excluded.failures, since_ms = excluded.since_ms, failed_ms = excluded.failed_ms,
            until_ms = excluded.until_ms, problem = excluded.problem, changed_ms = excluded.changed_ms
            WHERE p.changed_ms <= excluded.changed_ms
        """,
        names=[row.server_name for row in rows],
        failures=[row.failures for row in rows],
        since=[row.since_ms for row in rows],
        failed=[row.failed_ms for row in rows],
        until=[row.until_ms for row in rows],
        problems=[row.problem for row in rows],
        changed=[row.changed_ms for row in rows],
    )


async def find_pauses(tx: Tx, since_ms: int, limit: int) -> list[PauseRow]:
    """What has changed since then, the oldest first."""
    return await tx.rows(
        PauseRow,
        """
        SELECT server_name, failures, since_ms, failed_ms, until_ms, problem, changed_ms FROM federation_pauses
        WHERE changed_ms >= %(since)s ORDER BY changed_ms LIMIT %(limit)s
        """,
        since=since_ms,
        limit=limit,
    )


async def delete_pauses(tx: Tx, before_ms: int) -> None:
    """Those of servers that answered again, and of servers that nobody has asked for long."""
    await tx.execute(
        """
        DELETE FROM federation_pauses WHERE changed_ms < %(before)s AND (failures = 0 OR until_ms < %(before)s)
        """,
        before=before_ms,
    )
