"""Who acted and why, of appends where the entries do not say it themselves: what the server did by itself, and what has labels.

A reader of the log, such as an audit ledger, selects by the positions of the items it was handed: the rows were committed with
them. Ordinary acts have no row: an event names its sender, and `once` the device and the transaction id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Append, Cause, Position
from homeserver.storage.tx import Pipeline, Tx

KEEP_MS = 30 * 24 * 3600 * 1000
"""Causes older than this are forgotten, unless a reader has not come so far. Labels stay."""
MAX_REASON = 500
"""Characters of a reason."""


class _Row(NamedTuple):
    append: Append
    cause: Cause


def write(batch: Pipeline, appends: Sequence[Append], now_ms: int) -> None:
    """Add what has to be written of these appends, which have their positions: nothing, of most."""
    told = [
        _Row(append, append.cause)
        for append in appends
        if append.cause is not None and append.positions and (append.cause.reason or append.cause.labels)
    ]
    if not told:
        return
    _insert_causes(batch, [row for row in told if row.cause.reason], now_ms)
    _insert_labels(batch, [row for row in told if row.cause.labels])


def _insert_causes(batch: Pipeline, rows: Sequence[_Row], now_ms: int) -> None:
    if not rows:
        return
    batch.execute(
        """
        INSERT INTO log_causes (first, last, actor_nid, reason, request_id, written_ms)
        SELECT first, last, nullif(actor, 0), reason, nullif(request, ''), %(now)s::bigint
        FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[], %(actors)s::bigint[], %(reasons)s::text[],
                    %(requests)s::text[]) AS row (first, last, actor, reason, request)
        """,
        firsts=[row.append.positions[0] for row in rows],
        lasts=[row.append.positions[-1] for row in rows],
        actors=[row.cause.actor_nid or 0 for row in rows],
        reasons=[(row.cause.reason or "")[:MAX_REASON] for row in rows],
        requests=[row.cause.request.request_id if row.cause.request else "" for row in rows],
        now=now_ms,
    )


def _insert_labels(batch: Pipeline, rows: Sequence[_Row]) -> None:
    if not rows:
        return
    pairs = [
        (position, label) for row in rows for position in row.append.positions for label in row.cause.labels
    ]
    batch.execute(
        """
        INSERT INTO log_labels (position, label)
        SELECT * FROM unnest(%(positions)s::bigint[], %(labels)s::text[]) ON CONFLICT DO NOTHING
        """,
        positions=[position for position, _ in pairs],
        labels=[label for _, label in pairs],
    )


async def delete_older(tx: Tx, before_ms: int, upto: Position | None, limit: int) -> int:
    """Forget the oldest causes, at most `limit`, of those written before `before_ms`. Returns how many.

    `upto`: where the slowest reader is; None: there are no readers.
    """
    return await tx.execute(
        """
        DELETE FROM log_causes WHERE first IN (
            SELECT first FROM log_causes
            WHERE written_ms < %(before)s AND (last <= %(upto)s::bigint OR %(upto)s::bigint IS NULL)
            ORDER BY first LIMIT %(limit)s
        )
        """,
        before=before_ms,
        upto=upto,
        limit=limit,
    )
