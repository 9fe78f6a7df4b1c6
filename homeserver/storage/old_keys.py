"""Keys that the server of this database has signed with before, and their successors."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.storage.owner import PublicKey
from homeserver.storage.tx import Tx


class ExpiredKey(NamedTuple):
    """A key that signs no more."""

    key_id: str
    public_key: bytes
    """32 bytes."""
    expired_ts: int
    """Unix ms."""
    successor: bytes | None
    """The next key, sealed with this one (`runtime.signing_key.seal`)."""


async def find_old_keys(tx: Tx) -> list[ExpiredKey]:
    """All of them, the newest first."""
    return await tx.rows(
        ExpiredKey,
        "SELECT key_id, public_key, expired_ts, successor FROM old_signing_keys ORDER BY expired_ts DESC",
    )


async def insert_old_key(tx: Tx, key: ExpiredKey) -> None:
    """Note that a key signs no more. One that had expired before and was used again expires anew."""
    await tx.execute(
        """
        INSERT INTO old_signing_keys (key_id, public_key, expired_ts, successor)
        VALUES (%(key_id)s, %(public_key)s, %(expired)s, %(successor)s)
        ON CONFLICT (key_id) DO UPDATE SET expired_ts = excluded.expired_ts, successor = excluded.successor
        """,
        key_id=key.key_id,
        public_key=key.public_key,
        expired=key.expired_ts,
        successor=key.successor,
    )


async def replace_key(tx: Tx, old: PublicKey, new: PublicKey) -> bool:
    """The server signs with another key from now on; False if it did not sign with `old`."""
    count = await tx.execute(
        """
        UPDATE server_name SET key_id = %(key_id)s, public_key = %(public_key)s
        WHERE key_id = %(old_id)s AND public_key = %(old_key)s
        """,
        key_id=new.key_id,
        public_key=new.public_key,
        old_id=old.key_id,
        old_key=old.public_key,
    )
    return count == 1
