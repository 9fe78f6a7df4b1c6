"""SQL of access, refresh and login tokens, and of user-interactive authentication under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.auth.types import RefreshRow, Standing, TokenRow
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.storage.tx import Pipeline, Tx


class NewTokens(NamedTuple):
    """Hashes of what a session was just given."""

    user_nid: int
    device_id: DeviceId
    access_hash: bytes
    access_expires_ms: int | None
    refresh_hash: bytes | None
    refresh_expires_ms: int | None
    parent_nid: int | None = None
    """The refresh token this was exchanged for."""


# --- access and refresh tokens -----------------------------------------------------------------------------------


async def find_access_token(tx: Tx, digest: bytes) -> TokenRow | None:
    return await tx.row(
        TokenRow,
        """
        SELECT t.token_nid, t.user_nid, u.user_id, t.device_id, t.expires_ms, r.parent_nid IS NOT NULL,
               a.is_guest, a.is_admin, a.locked, a.suspended, a.deactivated_ms IS NOT NULL, a.rate_limited
        FROM access_tokens t JOIN accounts a USING (user_nid) JOIN users u USING (user_nid)
             LEFT JOIN refresh_tokens r USING (refresh_nid)
        WHERE t.hash = %(hash)s
        """,
        hash=digest,
    )


async def find_standing(tx: Tx, user_nid: int, token_nid: int | None) -> Standing | None:
    """Of an account by one of its access tokens; None if the token has ended. `token_nid` None: of the account alone."""
    return await tx.row(
        Standing,
        """
        SELECT locked, deactivated_ms IS NOT NULL FROM accounts
        WHERE user_nid = %(user_nid)s AND (%(token_nid)s::bigint IS NULL OR EXISTS (
            SELECT 1 FROM access_tokens t WHERE t.token_nid = %(token_nid)s AND t.user_nid = accounts.user_nid))
        """,
        user_nid=user_nid,
        token_nid=token_nid,
    )


async def find_refresh_token(tx: Tx, digest: bytes) -> RefreshRow | None:
    return await tx.row(
        RefreshRow,
        """
        SELECT refresh_nid, user_nid, device_id, parent_nid, expires_ms, revoked_ms IS NOT NULL, a.locked
        FROM refresh_tokens JOIN accounts a USING (user_nid) WHERE hash = %(hash)s
        """,
        hash=digest,
    )


async def lock_device(tx: Tx, user_nid: int, device_id: DeviceId) -> bool:
    """Exchange and first use of a device's tokens happen one after the other, over all processes. False if it is gone."""
    row = await tx.one(
        """
        SELECT 1 FROM devices WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s FOR NO KEY UPDATE
        """,
        user_nid=user_nid,
        device_id=device_id,
    )
    return row is not None


def insert_tokens(batch: Pipeline, new: NewTokens, now_ms: int) -> None:
    """Store an access token, and the refresh token given out with it if there is one."""
    batch.execute(
        """
        WITH refresh AS (
            INSERT INTO refresh_tokens (hash, user_nid, device_id, parent_nid, created_ms, expires_ms)
            SELECT %(refresh_hash)s::bytea, %(user_nid)s, %(device_id)s, %(parent)s, %(now)s, %(refresh_expires)s
            WHERE %(refresh_hash)s::bytea IS NOT NULL RETURNING refresh_nid
        )
        INSERT INTO access_tokens (hash, user_nid, device_id, refresh_nid, expires_ms)
        SELECT %(access_hash)s, %(user_nid)s, %(device_id)s, (SELECT refresh_nid FROM refresh), %(access_expires)s
        """,
        refresh_hash=new.refresh_hash,
        user_nid=new.user_nid,
        device_id=new.device_id,
        parent=new.parent_nid,
        now=now_ms,
        refresh_expires=new.refresh_expires_ms,
        access_hash=new.access_hash,
        access_expires=new.access_expires_ms,
    )


def delete_device_tokens(batch: Pipeline, user_nid: int, device_id: DeviceId) -> None:
    batch.execute(
        "DELETE FROM access_tokens WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s",
        user_nid=user_nid,
        device_id=device_id,
    )
    batch.execute(
        "DELETE FROM refresh_tokens WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s",
        user_nid=user_nid,
        device_id=device_id,
    )


def settle_first_use(batch: Pipeline, row: tuple[int, DeviceId, int, int], now_ms: int) -> None:
    """A token that came from a refresh is used for the first time: what it came from is revoked, what else came from
    that is gone. `row` is (user_nid, device_id, the refresh token now in use, the one it came from).
    """
    user_nid, device_id, refresh_nid, parent_nid = row
    batch.execute(
        """
        WITH siblings AS (
            DELETE FROM refresh_tokens
            WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s
              AND (parent_nid = %(parent)s AND refresh_nid <> %(own)s      -- given out for the same token
                   OR revoked_ms IS NOT NULL AND refresh_nid < %(parent)s) -- of generations before
            RETURNING refresh_nid
        )
        DELETE FROM access_tokens
        WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s AND refresh_nid IS DISTINCT FROM %(own)s
          AND (refresh_nid IN (SELECT refresh_nid FROM siblings) OR expires_ms <= %(now)s)
        """,
        user_nid=user_nid,
        device_id=device_id,
        parent=parent_nid,
        own=refresh_nid,
        now=now_ms,
    )
    batch.execute(
        """
        UPDATE refresh_tokens SET revoked_ms = CASE refresh_nid WHEN %(parent)s THEN %(now)s ELSE revoked_ms END,
                                  parent_nid = CASE refresh_nid WHEN %(own)s THEN NULL ELSE parent_nid END
        WHERE refresh_nid IN (%(own)s, %(parent)s)
        """,
        own=refresh_nid,
        parent=parent_nid,
        now=now_ms,
    )


async def find_use(tx: Tx, digest: bytes) -> tuple[int, DeviceId, int, int] | None:
    """For an access token that was never used: see `settle_first_use`. None if it was used, or is gone."""
    row = await tx.one(
        """
        SELECT t.user_nid, t.device_id, r.refresh_nid, r.parent_nid
        FROM access_tokens t JOIN refresh_tokens r USING (refresh_nid)
        WHERE t.hash = %(hash)s AND r.parent_nid IS NOT NULL
        """,
        hash=digest,
    )
    return None if row is None else (row[0], row[1], row[2], row[3])


def delete_surplus_children(
    batch: Pipeline, user_nid: int, device_id: DeviceId, parent_nid: int, keep: int
) -> None:
    """Of the tokens given out for one and the same, keep the last: a client that never hears the answer asks again."""
    batch.execute(
        """
        WITH surplus AS (
            DELETE FROM refresh_tokens WHERE refresh_nid IN (
                SELECT refresh_nid FROM refresh_tokens
                WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s AND parent_nid = %(parent)s
                ORDER BY refresh_nid DESC OFFSET %(keep)s)
            RETURNING refresh_nid
        )
        DELETE FROM access_tokens WHERE user_nid = %(user_nid)s AND device_id = %(device_id)s
                                    AND refresh_nid IN (SELECT refresh_nid FROM surplus)
        """,
        user_nid=user_nid,
        device_id=device_id,
        parent=parent_nid,
        keep=keep,
    )


# --- login tokens ------------------------------------------------------------------------------------------------


async def insert_login_token(tx: Tx, digest: bytes, user_nid: int, expires_ms: int) -> None:
    await tx.execute(
        "INSERT INTO login_tokens (hash, user_nid, expires_ms) VALUES (%(hash)s, %(user_nid)s, %(expires)s)",
        hash=digest,
        user_nid=user_nid,
        expires=expires_ms,
    )


async def take_login_token(tx: Tx, digest: bytes, now_ms: int) -> int | None:
    """The user_nid, once: whoever deletes the row has it."""
    row = await tx.one(
        "DELETE FROM login_tokens WHERE hash = %(hash)s RETURNING user_nid, expires_ms > %(now)s",
        hash=digest,
        now=now_ms,
    )
    return row[0] if row and row[1] else None


# --- user-interactive authentication -----------------------------------------------------------------------------


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


async def hold_registration_token(tx: Tx, digest: bytes, token: str) -> None:
    """Reserve one use of the token for this authentication, until it ends or expires."""
    await tx.execute(
        "UPDATE uia_sessions SET registration_token = %(token)s WHERE hash = %(hash)s",
        hash=digest,
        token=token,
    )


async def delete_uia_session(tx: Tx, digest: bytes) -> bool:
    """False if it is gone already: then somebody else made use of it."""
    return await tx.execute("DELETE FROM uia_sessions WHERE hash = %(hash)s", hash=digest) == 1


async def delete_expired(tx: Tx, now_ms: int) -> Sequence[int]:
    """Housekeeping: what can be used no more."""
    async with tx.pipeline() as batch:
        sessions = batch.execute("DELETE FROM uia_sessions WHERE expires_ms <= %(now)s", now=now_ms)
        logins = batch.execute("DELETE FROM login_tokens WHERE expires_ms <= %(now)s", now=now_ms)
    return sessions.result, logins.result
