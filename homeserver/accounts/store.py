"""SQL of accounts, registration tokens, accepted terms and OpenID tokens."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.accounts.types import Account, NewAccount, RegistrationToken
from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Pipeline, Tx


async def find_account(tx: Tx, user_id: UserId) -> Account | None:
    return await tx.row(
        Account,
        """
        SELECT user_nid, user_id, password_hash, created_ms, deactivated_ms, is_guest, is_admin, locked, suspended,
               erased, rate_limited, appservice_id, user_type
        FROM accounts JOIN users USING (user_nid) WHERE user_id = %(user_id)s
        """,
        user_id=user_id,
    )


async def get_account(tx: Tx, user_nid: int) -> Account | None:
    return await tx.row(
        Account,
        """
        SELECT user_nid, user_id, password_hash, created_ms, deactivated_ms, is_guest, is_admin, locked, suspended,
               erased, rate_limited, appservice_id, user_type
        FROM accounts JOIN users USING (user_nid) WHERE user_nid = %(user_nid)s
        """,
        user_nid=user_nid,
    )


async def list_accounts(tx: Tx, after: UserId, limit: int) -> list[Account]:
    """Accounts in the order of their user ids, those after `after`."""
    return await tx.rows(
        Account,
        """
        SELECT user_nid, user_id, password_hash, created_ms, deactivated_ms, is_guest, is_admin, locked, suspended,
               erased, rate_limited, appservice_id, user_type
        FROM accounts JOIN users USING (user_nid) WHERE user_id > %(after)s ORDER BY user_id LIMIT %(limit)s
        """,
        after=after,
        limit=limit,
    )


async def insert_account(tx: Tx, new: NewAccount, now_ms: int) -> int | None:
    """Returns the user_nid, or None if there is such an account. The user may be known already: somebody invited it."""
    nid: int | None = await tx.value(
        """
        WITH named AS (
            INSERT INTO users (user_id) VALUES (%(user_id)s)
            ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id RETURNING user_nid
        )
        INSERT INTO accounts (user_nid, password_hash, created_ms, is_guest, is_admin, appservice_id, user_type)
        SELECT user_nid, %(password_hash)s, %(now)s, %(is_guest)s, %(is_admin)s, %(appservice_id)s, %(user_type)s
        FROM named ON CONFLICT (user_nid) DO NOTHING RETURNING user_nid
        """,
        user_id=new.user_id,
        password_hash=new.password_hash,
        now=now_ms,
        is_guest=new.is_guest,
        is_admin=new.is_admin,
        appservice_id=new.appservice_id,
        user_type=new.user_type,
    )
    return nid


async def upgrade_guest(tx: Tx, user_nid: int, password_hash: str | None) -> bool:
    """Make a guest a user. False if it was none (any more)."""
    count = await tx.execute(
        """
        UPDATE accounts SET is_guest = false, password_hash = %(password_hash)s
        WHERE user_nid = %(user_nid)s AND is_guest AND deactivated_ms IS NULL
        """,
        user_nid=user_nid,
        password_hash=password_hash,
    )
    return count == 1


def set_password(batch: Pipeline, user_nid: int, password_hash: str) -> None:
    """Nothing happens to a deactivated account."""
    batch.execute(
        "UPDATE accounts SET password_hash = %(hash)s WHERE user_nid = %(user_nid)s AND deactivated_ms IS NULL",
        user_nid=user_nid,
        hash=password_hash,
    )


async def replace_hash(tx: Tx, user_nid: int, old: str, new: str) -> None:
    """Store the same password hashed anew, unless it was changed meanwhile."""
    await tx.execute(
        "UPDATE accounts SET password_hash = %(new)s WHERE user_nid = %(user_nid)s AND password_hash = %(old)s",
        user_nid=user_nid,
        old=old,
        new=new,
    )


def set_flags(
    batch: Pipeline, user_nid: int, *, locked: bool | None, suspended: bool | None, is_admin: bool | None
) -> None:
    """None leaves as it is."""
    batch.execute(
        """
        UPDATE accounts SET locked = coalesce(%(locked)s, locked), suspended = coalesce(%(suspended)s, suspended),
                            is_admin = coalesce(%(is_admin)s, is_admin)
        WHERE user_nid = %(user_nid)s
        """,
        user_nid=user_nid,
        locked=locked,
        suspended=suspended,
        is_admin=is_admin,
    )


async def find_own_rate(tx: Tx, user_nid: int) -> tuple[bool, float | None, int | None] | None:
    """Whether the user is limited at all, and the rate of their own."""
    return await tx.one(
        "SELECT rate_limited, rate_per_second, rate_burst FROM accounts WHERE user_nid = %(user_nid)s",
        user_nid=user_nid,
    )


def set_own_rate(batch: Pipeline, user_nid: int, *, limited: bool, rate: tuple[float, int] | None) -> None:
    """None: as everybody."""
    batch.execute(
        """
        UPDATE accounts SET rate_limited = %(limited)s, rate_per_second = %(per_second)s::float8,
                            rate_burst = %(burst)s::int
        WHERE user_nid = %(user_nid)s
        """,
        user_nid=user_nid,
        limited=limited,
        per_second=rate[0] if rate else None,
        burst=rate[1] if rate else None,
    )


def deactivate(batch: Pipeline, user_nid: int, *, erase: bool, now_ms: int) -> None:
    """End the account: no password, no rights. What was already deactivated keeps its time; erasure can be added."""
    batch.execute(
        """
        UPDATE accounts SET deactivated_ms = coalesce(deactivated_ms, %(now)s), password_hash = NULL,
                            is_admin = false, erased = erased OR %(erase)s
        WHERE user_nid = %(user_nid)s
        """,
        user_nid=user_nid,
        erase=erase,
        now=now_ms,
    )


async def find_erased(tx: Tx) -> list[int]:
    """Of every account that ended with the wish to be erased, the user_nid."""
    return await tx.column("SELECT user_nid FROM accounts WHERE erased")


# --- registration ------------------------------------------------------------------------------------------------


async def find_registration_token(
    tx: Tx, token: str, now_ms: int, *, but: bytes = b""
) -> RegistrationToken | None:
    """With what live authentications hold of it, without the one with hash `but`."""
    return await tx.row(
        RegistrationToken,
        """
        SELECT token, uses_allowed, completed,
               (SELECT count(*) FROM uia_sessions u
                WHERE u.registration_token = t.token AND u.expires_ms > %(now)s AND u.hash <> %(but)s)::integer,
               expires_ms
        FROM registration_tokens t WHERE token = %(token)s
        """,
        token=token,
        now=now_ms,
        but=but,
    )


async def lock_registration_token(tx: Tx, token: str) -> bool:
    """Until the end of the transaction nobody else uses one of its uses. False if there is no such token."""
    row = await tx.one("SELECT 1 FROM registration_tokens WHERE token = %(token)s FOR UPDATE", token=token)
    return row is not None


async def hold_registration_token(tx: Tx, session: bytes, token: str) -> None:
    """Reserve one use of the token for the authentication with this hash, until it ends or expires."""
    await tx.execute(
        "UPDATE uia_sessions SET registration_token = %(token)s WHERE hash = %(hash)s",
        hash=session,
        token=token,
    )


async def count_use(tx: Tx, token: str) -> None:
    await tx.execute(
        "UPDATE registration_tokens SET completed = completed + 1 WHERE token = %(token)s", token=token
    )


async def insert_registration_token(
    tx: Tx, token: str, uses_allowed: int | None, expires_ms: int | None, now_ms: int
) -> bool:
    """False if it exists."""
    count = await tx.execute(
        """
        INSERT INTO registration_tokens (token, uses_allowed, expires_ms, created_ms)
        VALUES (%(token)s, %(uses)s, %(expires)s, %(now)s) ON CONFLICT DO NOTHING
        """,
        token=token,
        uses=uses_allowed,
        expires=expires_ms,
        now=now_ms,
    )
    return count == 1


async def insert_terms(tx: Tx, user_nid: int, accepted: Sequence[tuple[str, str]], now_ms: int) -> None:
    """(policy, version) pairs."""
    await tx.execute(
        """
        INSERT INTO accepted_terms (user_nid, policy, version, accepted_ms)
        SELECT %(user_nid)s, policy, version, %(now)s
        FROM unnest(%(policies)s::text[], %(versions)s::text[]) AS a (policy, version) ON CONFLICT DO NOTHING
        """,
        user_nid=user_nid,
        policies=[policy for policy, _ in accepted],
        versions=[version for _, version in accepted],
        now=now_ms,
    )


async def spend_nonce(tx: Tx, nonce: str, expires_ms: int) -> bool:
    """False if it was spent before."""
    count = await tx.execute(
        "INSERT INTO spent_nonces (nonce, expires_ms) VALUES (%(nonce)s, %(expires)s) ON CONFLICT DO NOTHING",
        nonce=nonce,
        expires=expires_ms,
    )
    return count == 1


# --- OpenID ------------------------------------------------------------------------------------------------------


async def insert_openid_token(tx: Tx, digest: bytes, user_nid: int, expires_ms: int) -> None:
    await tx.execute(
        "INSERT INTO openid_tokens (hash, user_nid, expires_ms) VALUES (%(hash)s, %(user_nid)s, %(expires)s)",
        hash=digest,
        user_nid=user_nid,
        expires=expires_ms,
    )


async def find_openid_user(tx: Tx, digest: bytes, now_ms: int) -> UserId | None:
    found: UserId | None = await tx.value(
        """
        SELECT user_id FROM openid_tokens JOIN users USING (user_nid)
        WHERE hash = %(hash)s AND expires_ms > %(now)s
        """,
        hash=digest,
        now=now_ms,
    )
    return found


def delete_openid_tokens(batch: Pipeline, user_nid: int) -> None:
    batch.execute("DELETE FROM openid_tokens WHERE user_nid = %(user_nid)s", user_nid=user_nid)


async def delete_expired(tx: Tx, now_ms: int) -> None:
    """Housekeeping: what can be used no more."""
    async with tx.pipeline() as batch:
        batch.execute("DELETE FROM openid_tokens WHERE expires_ms <= %(now)s", now=now_ms)
        batch.execute("DELETE FROM spent_nonces WHERE expires_ms <= %(now)s", now=now_ms)
