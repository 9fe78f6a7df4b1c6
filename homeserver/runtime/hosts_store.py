"""SQL of the processes that serve. All times are the database's."""

from __future__ import annotations

from homeserver.storage.tx import Tx


async def put(tx: Tx, process: str, part: float) -> None:
    """It serves, as a part of its host."""
    await tx.execute(
        """
        INSERT INTO serving_processes (process, part, seen_at) VALUES (%(process)s, %(part)s, statement_timestamp())
        ON CONFLICT (process) DO UPDATE SET seen_at = excluded.seen_at
        """,
        process=process,
        part=part,
    )


async def count_others(tx: Tx, process: str, gone: float) -> float:
    """Hosts that all but this process make up which were seen in the last `gone` seconds."""
    found: float = await tx.value(
        """
        SELECT coalesce(sum(part), 0)::float8 FROM serving_processes
        WHERE process <> %(process)s AND seen_at > statement_timestamp() - %(gone)s * interval '1 second'
        """,
        process=process,
        gone=gone,
    )
    return found


async def delete(tx: Tx, process: str, gone: float) -> None:
    """It serves no more, nor do those that were not seen for `gone` seconds."""
    await tx.execute(
        """
        DELETE FROM serving_processes
        WHERE process = %(process)s OR seen_at < statement_timestamp() - %(gone)s * interval '1 second'
        """,
        process=process,
        gone=gone,
    )
