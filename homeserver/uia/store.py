"""SQL of user-interactive authentication under way."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Tx


class UiaRow(NamedTuple):
    """An authentication under way."""

    operation: str
    body_mac: bytes
    user_nid: int | None
    completed: list[str]
    remembered: list[str]
    sealed_body: bytes | None = None
    """The request, if it was kept: see `sealing.py`."""
    user_id: UserId | None = None
    """Of `user_nid`; not stored."""

    def advanced(self, stage: str, remembered: str) -> UiaRow:
        """With one more stage."""
        return self._replace(completed=[*self.completed, stage], remembered=[*self.remembered, remembered])


async def insert_uia_session(tx: Tx, digest: bytes, row: UiaRow, expires_ms: int) -> None:
    await tx.execute(
        """
        INSERT INTO uia_sessions
            (hash, operation, body_mac, user_nid, completed, remembered, sealed_body, expires_ms)
        VALUES (%(hash)s, %(operation)s, %(body_mac)s, %(user_nid)s, %(completed)s, %(remembered)s, %(sealed_body)s,
                %(expires)s)
        """,
        hash=digest,
        operation=row.operation,
        body_mac=row.body_mac,
        user_nid=row.user_nid,
        completed=row.completed,
        remembered=row.remembered,
        sealed_body=row.sealed_body,
        expires=expires_ms,
    )


async def find_uia_session(tx: Tx, digest: bytes, now_ms: int) -> UiaRow | None:
    return await tx.row(
        UiaRow,
        """
        SELECT operation, body_mac, user_nid, completed, remembered, sealed_body, user_id
        FROM uia_sessions LEFT JOIN users USING (user_nid)
        WHERE hash = %(hash)s AND expires_ms > %(now)s
        """,
        hash=digest,
        now=now_ms,
    )


async def complete_stage(tx: Tx, digest: bytes, session: UiaRow, done: tuple[str, str]) -> bool:
    """Note a stage (type, what to remember) as the next of a session, and bind the session to the body of `session`.

    False, and nothing happens, if another request has completed a stage meanwhile.
    """
    changed = await tx.execute(
        """
        UPDATE uia_sessions
        SET completed = completed || %(stage)s::text, remembered = remembered || %(remembered)s::text,
            body_mac = %(body_mac)s, sealed_body = %(sealed_body)s
        WHERE hash = %(hash)s AND completed = %(before)s
        """,
        hash=digest,
        body_mac=session.body_mac,
        sealed_body=session.sealed_body,
        before=session.completed,
        stage=done[0],
        remembered=done[1],
    )
    return changed == 1


async def delete_uia_session(tx: Tx, digest: bytes) -> bool:
    """False if it is gone already: then somebody else made use of it."""
    return await tx.execute("DELETE FROM uia_sessions WHERE hash = %(hash)s", hash=digest) == 1


async def delete_expired(tx: Tx, now_ms: int) -> None:
    """Housekeeping: what can be used no more."""
    await tx.execute("DELETE FROM uia_sessions WHERE expires_ms <= %(now)s", now=now_ms)
