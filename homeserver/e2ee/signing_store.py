"""SQL of cross-signing keys and signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.e2ee.types import SignatureRow, SigningRow
from homeserver.storage.tx import Later, Pipeline, Tx


def find_signing_keys(batch: Pipeline, user_nids: Sequence[int]) -> Later[list[SigningRow]]:
    """All cross-signing keys of these users."""
    return batch.rows(
        SigningRow,
        """
        SELECT user_nid, usage, public_key, key FROM cross_signing_keys WHERE user_nid = ANY(%(users)s::bigint[])
        """,
        users=list(user_nids),
    )


def require_master(batch: Pipeline, user_nid: int, public_key: str | None) -> None:
    """Fails with `psycopg.errors.NotNullViolation` if the user has another master key by now; None: if there is one."""
    batch.execute(
        """
        UPDATE cross_signing_keys SET public_key = CASE WHEN public_key = %(key)s THEN public_key END
        WHERE user_nid = %(user)s AND usage = 1
        """,
        user=user_nid,
        key=public_key,
    )


def upsert_signing_keys(batch: Pipeline, rows: Sequence[SigningRow]) -> None:
    batch.execute(
        """
        INSERT INTO cross_signing_keys (user_nid, usage, public_key, key)
        SELECT * FROM unnest(%(users)s::bigint[], %(usages)s::smallint[], %(publics)s::text[], %(keys)s::bytea[])
        ON CONFLICT (user_nid, usage) DO UPDATE
            SET public_key = excluded.public_key, key = excluded.key, replaceable_until_ms = NULL
        """,
        users=[row.user_nid for row in rows],
        usages=[row.usage for row in rows],
        publics=[row.public_key for row in rows],
        keys=[row.key for row in rows],
    )


def find_replaceable(batch: Pipeline, user_nid: int) -> Later[tuple[Any, ...] | None]:
    """(Unix milliseconds until when the user may replace their master key without proof, or None)."""
    return batch.one(
        "SELECT replaceable_until_ms FROM cross_signing_keys WHERE user_nid = %(user)s AND usage = 1",
        user=user_nid,
    )


async def let_replace(tx: Tx, user_nid: int, until_ms: int) -> bool:
    """Let a user replace their keys without proof until then, once. False: they have no master key."""
    return bool(
        await tx.execute(
            """
            UPDATE cross_signing_keys SET replaceable_until_ms = %(until)s WHERE user_nid = %(user)s AND usage = 1
            """,
            user=user_nid,
            until=until_ms,
        )
    )


def delete_signing_keys(batch: Pipeline, user_nid: int) -> None:
    """All cross-signing keys of a user, and every signature made with or of them."""
    batch.execute("DELETE FROM cross_signing_keys WHERE user_nid = %(user)s", user=user_nid)
    batch.execute(
        "DELETE FROM key_signatures WHERE target_nid = %(user)s OR signer_nid = %(user)s", user=user_nid
    )


async def is_signing_key(tx: Tx, user_nid: int, public_key: str) -> bool:
    """Whether one of the user's cross-signing keys is called so (E2E-10)."""
    return bool(
        await tx.value(
            """
            SELECT EXISTS (SELECT 1 FROM cross_signing_keys
                           WHERE user_nid = %(user)s AND public_key = %(key)s)
            """,
            user=user_nid,
            key=public_key,
        )
    )


def find_own_signatures(batch: Pipeline, user_nids: Sequence[int]) -> Later[list[SignatureRow]]:
    """Signatures of these users' keys by themselves: for everybody to see (E2E-06)."""
    return batch.rows(
        SignatureRow,
        """
        SELECT target_nid, target_key, signer_nid, signer_key, signature FROM key_signatures
        WHERE target_nid = ANY(%(users)s::bigint[]) AND signer_nid = target_nid
        """,
        users=list(user_nids),
    )


def find_own_signatures_of(
    batch: Pipeline, devices: Sequence[tuple[int, str]], user_nids: Sequence[int]
) -> Later[list[SignatureRow]]:
    """The same of some devices alone, (user_nid, device_id), and of these users' cross-signing keys."""
    return batch.rows(
        SignatureRow,
        """
        SELECT s.target_nid, s.target_key, s.signer_nid, s.signer_key, s.signature
        FROM (SELECT * FROM unnest(%(of)s::bigint[], %(devices)s::text[])
              UNION SELECT user_nid, public_key FROM cross_signing_keys WHERE user_nid = ANY(%(users)s::bigint[])
             ) AS w (user_nid, key)
        JOIN key_signatures s ON s.target_nid = w.user_nid AND s.target_key = w.key AND s.signer_nid = w.user_nid
        """,
        of=[user_nid for user_nid, _ in devices],
        devices=[device_id for _, device_id in devices],
        users=list(user_nids),
    )


async def find_signatures_by(tx: Tx, signer_nid: int) -> list[SignatureRow]:
    """What a user has signed of others: for the signer alone to see (E2E-06)."""
    return await tx.rows(
        SignatureRow,
        """
        SELECT target_nid, target_key, signer_nid, signer_key, signature FROM key_signatures
        WHERE signer_nid = %(signer)s AND target_nid <> signer_nid
        """,
        signer=signer_nid,
    )


def upsert_signatures(batch: Pipeline, rows: Sequence[SignatureRow]) -> None:
    batch.execute(
        """
        INSERT INTO key_signatures (target_nid, target_key, signer_nid, signer_key, signature)
        SELECT * FROM unnest(%(targets)s::bigint[], %(keys)s::text[], %(signers)s::bigint[], %(signer_keys)s::text[],
                             %(signatures)s::text[])
        ON CONFLICT (target_nid, target_key, signer_nid, signer_key) DO UPDATE SET signature = excluded.signature
        """,
        targets=[row.target_nid for row in rows],
        keys=[row.target_key for row in rows],
        signers=[row.signer_nid for row in rows],
        signer_keys=[row.signer_key for row in rows],
        signatures=[row.signature for row in rows],
    )
