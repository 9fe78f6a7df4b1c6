"""SQL of incoming webhooks."""

from __future__ import annotations

from homeserver.hooks.types import Hook
from homeserver.matrix.ids import RoomId, UserId
from homeserver.storage.tx import Tx


async def insert(tx: Tx, hook: Hook, digest: bytes) -> None:
    """Keep a hook under the digest of its secret."""
    await tx.execute(
        """
        INSERT INTO hooks (hook_id, secret_digest, user_nid, room_id, made_by_nid, name, created_ms)
        VALUES (%(id)s, %(digest)s, %(user)s, %(room)s, %(by)s, %(name)s, %(created)s)
        """,
        id=hook.hook_id,
        digest=digest,
        user=hook.user_nid,
        room=hook.room_id,
        by=hook.made_by_nid,
        name=hook.name,
        created=hook.created_ms,
    )


async def find_by_secret(tx: Tx, digest: bytes) -> Hook | None:
    """The hook with a secret, if it is not revoked."""
    return await tx.row(
        Hook,
        """
        SELECT h.hook_id, h.user_nid, u.user_id, h.room_id, h.made_by_nid, m.user_id, h.name, h.created_ms, h.last_used_ms
        FROM hooks h JOIN users u ON u.user_nid = h.user_nid JOIN users m ON m.user_nid = h.made_by_nid
        WHERE h.secret_digest = %(digest)s
        """,
        digest=digest,
    )


async def find(tx: Tx, hook_id: str) -> Hook | None:
    """The hook of a public id, if it is not revoked."""
    return await tx.row(
        Hook,
        """
        SELECT h.hook_id, h.user_nid, u.user_id, h.room_id, h.made_by_nid, m.user_id, h.name, h.created_ms, h.last_used_ms
        FROM hooks h JOIN users u ON u.user_nid = h.user_nid JOIN users m ON m.user_nid = h.made_by_nid
        WHERE h.hook_id = %(id)s
        """,
        id=hook_id,
    )


async def list_all(tx: Tx, limit: int) -> list[Hook]:
    """Those that are not revoked, the oldest first."""
    return await tx.rows(
        Hook,
        """
        SELECT h.hook_id, h.user_nid, u.user_id, h.room_id, h.made_by_nid, m.user_id, h.name, h.created_ms, h.last_used_ms
        FROM hooks h JOIN users u ON u.user_nid = h.user_nid JOIN users m ON m.user_nid = h.made_by_nid
        ORDER BY h.created_ms, h.hook_id LIMIT %(limit)s
        """,
        limit=limit,
    )


async def list_of_room(tx: Tx, room_id: RoomId, limit: int) -> list[Hook]:
    """Those of a room that are not revoked, the oldest first."""
    return await tx.rows(
        Hook,
        """
        SELECT h.hook_id, h.user_nid, u.user_id, h.room_id, h.made_by_nid, m.user_id, h.name, h.created_ms, h.last_used_ms
        FROM hooks h JOIN users u ON u.user_nid = h.user_nid JOIN users m ON m.user_nid = h.made_by_nid
        WHERE h.room_id = %(room)s ORDER BY h.created_ms, h.hook_id LIMIT %(limit)s
        """,
        room=room_id,
        limit=limit,
    )


async def count(tx: Tx) -> int:
    """How many there are."""
    found: int = await tx.value("SELECT count(*) FROM hooks")
    return found


async def note_used(tx: Tx, hook_id: str, now_ms: int, before_ms: int) -> None:
    """Note when it was used, unless that was noted after `before_ms`."""
    await tx.execute(
        """
        UPDATE hooks SET last_used_ms = %(now)s
        WHERE hook_id = %(id)s AND (last_used_ms IS NULL OR last_used_ms < %(before)s)
        """,
        id=hook_id,
        now=now_ms,
        before=before_ms,
    )


async def delete(tx: Tx, hook_id: str) -> None:
    """Revoke it: its secret is known no more."""
    await tx.execute("DELETE FROM hooks WHERE hook_id = %(id)s", id=hook_id)


async def find_room(tx: Tx, alias: str) -> RoomId | None:
    """The room that an alias of this server names."""
    found = await tx.value(
        "SELECT room_id FROM room_aliases JOIN rooms USING (room_nid) WHERE alias = %(alias)s", alias=alias
    )
    return None if found is None else RoomId(found)


async def find_user(tx: Tx, user_id: UserId) -> int | None:
    """The number of a local account that has not ended."""
    found: int | None = await tx.value(
        """
        SELECT user_nid FROM accounts JOIN users USING (user_nid)
        WHERE user_id = %(user)s AND deactivated_ms IS NULL
        """,
        user=user_id,
    )
    return found
