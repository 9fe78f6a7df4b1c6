"""SQL of redacted originals. They are written by redactions, and destroyed: no statement here reads what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from homeserver.storage.tx import Pipeline, Tx


class Original(NamedTuple):
    """An event that is redacted as it comes, because its redaction was here before."""

    event_nid: int
    room_nid: int
    sender_nid: int
    redacted_by: int
    pdu: bytes
    """Canonical JSON."""


def redact(
    batch: Pipeline, targets: Sequence[int], pdus: Sequence[bytes], redactions: Sequence[int], *, keep: bool
) -> None:
    """Put stripped forms (JSON) in the place of events, by number; if `keep`, what stood there is kept apart.

    An event that is redacted already stays as it is.
    """
    batch.execute(
        _KEEP_AND_REDACT if keep else _REDACT,
        targets=list(targets),
        pdus=list(pdus),
        redactions=list(redactions),
    )
    # The same events as states name them that were outliers.
    batch.execute(_REDACT_MOVED, targets=list(targets), pdus=list(pdus), redactions=list(redactions))


_REDACT: LiteralString = """
    UPDATE events SET pdu = row.pdu, redacted_by = row.redaction
    FROM unnest(%(targets)s::bigint[], %(pdus)s::bytea[], %(redactions)s::bigint[]) AS row (target, pdu, redaction)
    WHERE event_nid = row.target AND redacted_by IS NULL
"""
_REDACT_MOVED: LiteralString = """
    UPDATE events SET pdu = row.pdu, redacted_by = row.redaction
    FROM unnest(%(targets)s::bigint[], %(pdus)s::bytea[], %(redactions)s::bigint[]) AS row (target, pdu, redaction)
    WHERE moved_to = row.target AND redacted_by IS NULL
"""
# Both halves see the events as they were before the statement.
_KEEP_AND_REDACT: LiteralString = """
    WITH row AS (
        SELECT * FROM unnest(%(targets)s::bigint[], %(pdus)s::bytea[], %(redactions)s::bigint[])
            AS row (target, pdu, redaction)
    ), kept AS (
        INSERT INTO redacted_originals (event_nid, room_nid, sender_nid, redacted_by, pdu)
        SELECT e.event_nid, e.room_nid, e.sender_nid, row.redaction, e.pdu
        FROM row JOIN events e ON e.event_nid = row.target WHERE e.redacted_by IS NULL
        ON CONFLICT DO NOTHING
    )
    UPDATE events SET pdu = row.pdu, redacted_by = row.redaction FROM row
    WHERE event_nid = row.target AND redacted_by IS NULL
"""


def keep_originals(batch: Pipeline, originals: Sequence[Original]) -> None:
    """Keep apart what never stood among the events."""
    batch.execute(
        """
        INSERT INTO redacted_originals (event_nid, room_nid, sender_nid, redacted_by, pdu)
        SELECT * FROM unnest(%(nids)s::bigint[], %(rooms)s::bigint[], %(senders)s::bigint[], %(redactions)s::bigint[],
                             %(pdus)s::bytea[])
        """,
        nids=[each.event_nid for each in originals],
        rooms=[each.room_nid for each in originals],
        senders=[each.sender_nid for each in originals],
        redactions=[each.redacted_by for each in originals],
        pdus=[each.pdu for each in originals],
    )


async def destroy_older(tx: Tx, seconds: float, limit: int) -> int:
    """Destroy those kept for longer, the oldest first, at most `limit`, unless they are held. Returns how many."""
    return await tx.execute(
        """
        DELETE FROM redacted_originals WHERE event_nid IN (
            SELECT event_nid FROM redacted_originals
            WHERE NOT held AND kept_since <= now() - %(seconds)s * interval '1 second'
            ORDER BY kept_since LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        )
        """,
        seconds=seconds,
        limit=limit,
    )


async def destroy_of(tx: Tx, sender_nid: int, limit: int) -> int:
    """Destroy those of what a user has sent, at most `limit`, unless they are held. Returns how many."""
    return await tx.execute(
        """
        DELETE FROM redacted_originals WHERE event_nid IN (
            SELECT event_nid FROM redacted_originals WHERE NOT held AND sender_nid = %(sender)s
            LIMIT %(limit)s FOR UPDATE
        )
        """,
        sender=sender_nid,
        limit=limit,
    )
