"""SQL of access, refresh and login tokens, and of what sessions write of their devices: that they are there, and were seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.matrix.ids import DeviceId, UserId
from homeserver.sessions.types import ActingRow, MasqueradeRow, RefreshRow, Standing, TokenRow
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
               a.is_guest, a.is_admin, a.locked, a.suspended, a.deactivated_ms IS NOT NULL, a.rate_limited,
               a.rate_per_second, a.rate_burst
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


async def find_acting(tx: Tx, user_nid: int) -> ActingRow | None:
    """What must be known of a local account to act for it."""
    return await tx.row(
        ActingRow,
        """
        SELECT u.user_id, a.is_guest, a.is_admin, a.locked, a.suspended, a.deactivated_ms IS NOT NULL, a.rate_limited,
               a.rate_per_second, a.rate_burst
        FROM accounts a JOIN users u USING (user_nid) WHERE a.user_nid = %(user_nid)s
        """,
        user_nid=user_nid,
    )


async def find_masquerade(tx: Tx, user_id: UserId, device_id: DeviceId | None) -> MasqueradeRow | None:
    """Of a local account that has not ended, what an application service that acts as it must know."""
    return await tx.row(
        MasqueradeRow,
        """
        SELECT user_nid, user_id, is_admin, suspended, locked, appservice_id,
               %(device_id)s::text IS NULL OR EXISTS (
                   SELECT FROM devices d WHERE d.user_nid = a.user_nid AND d.device_id = %(device_id)s)
        FROM accounts a JOIN users USING (user_nid) WHERE user_id = %(user_id)s AND deactivated_ms IS NULL
        """,
        user_id=user_id,
        device_id=device_id,
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


async def delete_expired_login_tokens(tx: Tx, now_ms: int) -> None:
    await tx.execute("DELETE FROM login_tokens WHERE expires_ms <= %(now)s", now=now_ms)


def delete_login_tokens(batch: Pipeline, user_nid: int) -> None:
    """All that a user has not used yet."""
    batch.execute("DELETE FROM login_tokens WHERE user_nid = %(user_nid)s", user_nid=user_nid)


# --- devices -----------------------------------------------------------------------------------------------------


def insert_device(
    batch: Pipeline, user_nid: int, device_id: DeviceId, display_name: str | None, now_ms: int
) -> None:
    """Nothing happens if it exists: then its name stays (CHECKLIST AUTH-11)."""
    batch.execute(
        """
        INSERT INTO devices (user_nid, device_id, display_name, created_ms)
        VALUES (%(user_nid)s, %(device_id)s, %(display_name)s, %(now)s) ON CONFLICT DO NOTHING
        """,
        user_nid=user_nid,
        device_id=device_id,
        display_name=display_name,
        now=now_ms,
    )


async def update_last_seen(tx: Tx, rows: Sequence[tuple[int, DeviceId, int, str, str]]) -> None:
    """(user_nid, device_id, Unix milliseconds, address, user agent) of each; never back in time.

    Locked in order, so that two processes that flush at once do not wait for each other.
    """
    await tx.execute(
        """
        WITH seen AS (
            SELECT * FROM unnest(%(users)s::bigint[], %(ids)s::text[], %(at)s::bigint[], %(ips)s::text[], %(agents)s::text[])
                AS s (user_nid, device_id, at_ms, ip, agent)
        ), locked AS (
            SELECT user_nid, device_id FROM devices JOIN seen USING (user_nid, device_id)
            WHERE last_seen_ms IS NULL OR last_seen_ms < at_ms
            ORDER BY user_nid, device_id FOR NO KEY UPDATE OF devices
        )
        UPDATE devices d SET last_seen_ms = s.at_ms, last_seen_ip = nullif(s.ip, ''), last_seen_agent = nullif(s.agent, '')
        FROM seen s JOIN locked USING (user_nid, device_id)
        WHERE d.user_nid = s.user_nid AND d.device_id = s.device_id
        """,
        users=[row[0] for row in rows],
        ids=[row[1] for row in rows],
        at=[row[2] for row in rows],
        ips=[row[3] for row in rows],
        agents=[row[4] for row in rows],
    )
