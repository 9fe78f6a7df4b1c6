"""SQL of the log: the head, and the feed by which other processes learn what was written."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline, Tx

CHANNEL = "atrium_log"
"""NOTIFY channel: a hint that the head has moved. Never needed for correctness."""
KEEP_FEED = 100_000
"""Positions a process may lag before it drops its projections and starts anew."""
TRIM_EVERY = 10_000


def lock_head(batch: Pipeline) -> Later[tuple[Position, str] | None]:
    """Become the only writer until the transaction ends. The head, and the transaction's id for `is_committed`."""
    return batch.one("SELECT position, pg_current_xact_id()::text FROM log_head FOR UPDATE")


async def is_committed(tx: Tx, xid: str, rows: Sequence[FeedRow]) -> bool:
    """Whether a transaction that had locked the head, to write these feed rows, was committed; waits until it has ended.

    A database that has crashed, and a standby that has taken over, may give the number of a transaction that left nothing
    behind to another one. So the log must go as far as ours did, and where the feed still has our positions (it is empty
    after a crash) they must hold what we wrote there.

    Source: PostgreSQL documentation, "Transaction ID and Snapshot Information Functions".
    """
    head = await tx.value("SELECT position FROM log_head FOR UPDATE")
    # One that lies in the future was lost when a standby took over; one too old to be known cannot be ours.
    committed = await tx.value(
        """
        SELECT CASE WHEN %(xid)s::text::xid8 < pg_current_xact_id()
                    THEN pg_xact_status(%(xid)s::text::xid8) = 'committed' END
        """,
        xid=xid,
    )
    if not committed or not rows:
        return bool(committed)
    if head < rows[-1][0]:
        return False
    there = await read_feed(tx, rows[0][0] - 1, rows[-1][0], len(rows))
    ours = {row[0]: row[1:3] for row in rows}
    return all(ours[row[0]] == row[1:3] for row in there)


async def read_head(tx: Tx) -> Position:
    row = await tx.one("SELECT position FROM log_head")
    assert row is not None
    return int(row[0])


def advance_head(batch: Pipeline, position: Position) -> None:
    """Move the head."""
    batch.execute("UPDATE log_head SET position = %(position)s", position=position)


def tell_others(batch: Pipeline, position: Position) -> None:
    """Tell whoever listens, when the transaction commits, how far the log goes now."""
    batch.all("SELECT pg_notify('atrium_log', %(position)s::text)", position=str(position))


FeedRow = tuple[Position, str, bytes, bytes | None]
"""Position, kind, payload; and, if another process of the host wrote it, whose entry it is (`log.host`)."""


def insert_feed(batch: Pipeline, rows: Sequence[FeedRow]) -> None:
    if any(row[3] for row in rows):
        batch.execute(
            """
            INSERT INTO log_feed (position, kind, payload, origin)
            SELECT position, kind, payload, nullif(origin, '')
            FROM unnest(%(positions)s::bigint[], %(kinds)s::text[], %(payloads)s::bytea[], %(origins)s::bytea[])
                AS row (position, kind, payload, origin)
            """,
            positions=[r[0] for r in rows],
            kinds=[r[1] for r in rows],
            payloads=[r[2] for r in rows],
            origins=[r[3] or b"" for r in rows],
        )
        return
    batch.execute(
        """
        INSERT INTO log_feed (position, kind, payload)
        SELECT * FROM unnest(%(positions)s::bigint[], %(kinds)s::text[], %(payloads)s::bytea[])
        """,
        positions=[r[0] for r in rows],
        kinds=[r[1] for r in rows],
        payloads=[r[2] for r in rows],
    )


async def read_feed(tx: Tx, after: Position, upto: Position, limit: int) -> list[FeedRow]:
    """Feed rows in (after, upto], in order, at most `limit`."""
    return await tx.all(
        """
        SELECT position, kind, payload, origin FROM log_feed
        WHERE position > %(after)s AND position <= %(upto)s ORDER BY position LIMIT %(limit)s
        """,
        after=after,
        upto=upto,
        limit=limit,
    )


def trim_feed(batch: Pipeline, before: Position) -> None:
    batch.execute("DELETE FROM log_feed WHERE position < %(before)s", before=before)


def empty_feed(batch: Pipeline) -> None:
    batch.execute("DELETE FROM log_feed")


def insert_break(batch: Pipeline, after: Position, upto: Position) -> None:
    batch.execute("INSERT INTO log_breaks (after, upto) VALUES (%(after)s, %(upto)s)", after=after, upto=upto)


async def find_breaks(tx: Tx) -> list[tuple[Position, Position]]:
    """(after, upto) of every restore."""
    return await tx.all("SELECT after, upto FROM log_breaks ORDER BY after")
