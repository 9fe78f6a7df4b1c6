"""Idempotency inside the batch: a retried request never writes twice, across restarts and processes.

spec: client-server-api/#transaction-identifiers (API-09, API-10)
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from homeserver.log.entries import Position, TransactionId
from homeserver.storage.tx import Later, Pipeline, Tx

KEEP_MS = 7 * 24 * 3600 * 1000
"""Retries later than this are new requests."""


def key_of(txn: TransactionId) -> bytes:
    """128 bits that stand for (user, device, endpoint, transaction id)."""
    text = f"{txn.user_nid}\0{txn.device_id}\0{txn.scope}\0{txn.txn_id}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def find_written(batch: Pipeline, keys: Sequence[bytes]) -> Later[list[tuple[bytes, Position]]]:
    """Which of the keys were used, and the position of the last entry they wrote."""
    return batch.all("SELECT key, position FROM once WHERE key = ANY(%(keys)s::bytea[])", keys=list(keys))


def insert_keys(batch: Pipeline, rows: Sequence[tuple[TransactionId, Position]], now_ms: int) -> None:
    """Remember that these requests were carried out."""
    batch.execute(
        """
        INSERT INTO once (key, position, user_nid, device_id, txn_id, written_ms)
        SELECT *, %(now)s::bigint FROM unnest(%(keys)s::bytea[], %(positions)s::bigint[], %(users)s::bigint[],
                                      %(devices)s::text[], %(txns)s::text[])
        """,
        keys=[key_of(txn) for txn, _ in rows],
        positions=[position for _, position in rows],
        users=[txn.user_nid for txn, _ in rows],
        devices=[txn.device_id for txn, _ in rows],
        txns=[txn.txn_id for txn, _ in rows],
        now=now_ms,
    )


async def delete_older(tx: Tx, before_ms: int, limit: int = 10_000) -> int:
    """Forget keys written before `before_ms`, at most `limit` a call. Returns how many."""
    return await tx.execute(
        """
        DELETE FROM once WHERE key IN (SELECT key FROM once WHERE written_ms < %(before)s LIMIT %(limit)s)
        """,
        before=before_ms,
        limit=limit,
    )
