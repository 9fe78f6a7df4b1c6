"""SQL of addresses and of sessions in which they are proved."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.storage.tx import Tx
from homeserver.threepids.types import Bound, Confirmed, Owner, Proof, Threepid, Unproved, ValidationRequest


async def find_owner(tx: Tx, medium: str, address: str) -> Owner | None:
    """The account with this address; not one that has ended."""
    return await tx.row(
        Owner,
        """
        SELECT t.user_nid, u.user_id FROM threepids t JOIN users u USING (user_nid) JOIN accounts a USING (user_nid)
        WHERE t.medium = %(medium)s AND t.address = %(address)s AND a.deactivated_ms IS NULL
        """,
        medium=medium,
        address=address,
    )


async def list_threepids(tx: Tx, user_nid: int) -> list[Threepid]:
    """In the order they were added."""
    return await tx.rows(
        Threepid,
        """
        SELECT medium, address, validated_ms, added_ms FROM threepids WHERE user_nid = %(user)s
        ORDER BY added_ms, address
        """,
        user=user_nid,
    )


async def insert_threepid(tx: Tx, user_nid: int, proof: Proof, now_ms: int) -> bool:
    """False if it is another account's. One's own is proved anew."""
    count = await tx.execute(
        """
        INSERT INTO threepids (medium, address, user_nid, validated_ms, added_ms)
        VALUES (%(medium)s, %(address)s, %(user)s, %(validated)s, %(now)s)
        ON CONFLICT (medium, address) DO UPDATE SET validated_ms = excluded.validated_ms
            WHERE threepids.user_nid = excluded.user_nid
        """,
        medium=proof.medium,
        address=proof.address,
        user=user_nid,
        validated=proof.validated_ms,
        now=now_ms,
    )
    return count == 1


async def lock_user(tx: Tx, user_nid: int) -> None:
    """Nobody else adds an address to the account until the transaction ends. A statement of its own: what is counted then
    has what was added before the lock was had.
    """
    await tx.execute("SELECT 1 FROM accounts WHERE user_nid = %(user)s FOR NO KEY UPDATE", user=user_nid)


async def count_threepids(tx: Tx, user_nid: int) -> int:
    return await tx.value(  # type: ignore[no-any-return]  # bigint
        "SELECT count(*) FROM threepids WHERE user_nid = %(user)s", user=user_nid
    )


async def delete_threepid(tx: Tx, user_nid: int, medium: str, address: str) -> None:
    """Nothing happens if it is not the user's."""
    await tx.execute(
        """
        DELETE FROM threepids WHERE medium = %(medium)s AND address = %(address)s AND user_nid = %(user)s
        """,
        medium=medium,
        address=address,
        user=user_nid,
    )


async def delete_of_user(tx: Tx, user_nid: int) -> None:
    await tx.execute("DELETE FROM threepids WHERE user_nid = %(user)s", user=user_nid)


# --- sessions ----------------------------------------------------------------------------------------------------


async def begin_session(  # noqa: PLR0917  # one value each, called in one place
    tx: Tx,
    sid: str,
    request: ValidationRequest,
    medium: str,
    secret_hash: bytes,
    now_ms: int,
    expires_ms: int,
) -> tuple[str, bool] | None:
    """(sid, whether it is proved already) if this attempt is newer than the last one; else None."""
    row = await tx.one(
        """
        INSERT INTO threepid_sessions AS s
            (sid, purpose, medium, address, secret_hash, send_attempt, next_link, expires_ms)
        VALUES (%(sid)s, %(purpose)s, %(medium)s, %(address)s, %(secret)s, %(attempt)s, %(next)s, %(expires)s)
        ON CONFLICT (purpose, medium, address, secret_hash) DO UPDATE
            SET send_attempt = excluded.send_attempt, next_link = excluded.next_link,
                validated_ms = CASE WHEN s.expires_ms > %(now)s THEN s.validated_ms END,
                expires_ms = greatest(s.expires_ms, excluded.expires_ms)
            WHERE s.send_attempt < excluded.send_attempt OR s.expires_ms <= %(now)s
        RETURNING sid, validated_ms IS NOT NULL
        """,
        sid=sid,
        purpose=request.purpose,
        medium=medium,
        address=request.address,
        secret=secret_hash,
        attempt=request.send_attempt,
        next=request.next_link,
        now=now_ms,
        expires=expires_ms,
    )
    return None if row is None else (row[0], row[1])


async def find_session(tx: Tx, request: ValidationRequest, medium: str, secret_hash: bytes) -> str | None:
    """The sid of the session a request belongs to."""
    return await tx.value(  # type: ignore[no-any-return]  # text
        """
        SELECT sid FROM threepid_sessions
        WHERE purpose = %(purpose)s AND medium = %(medium)s AND address = %(address)s AND secret_hash = %(secret)s
        """,
        purpose=request.purpose,
        medium=medium,
        address=request.address,
        secret=secret_hash,
    )


async def find_unproved(tx: Tx, sid: str, now_ms: int) -> Unproved | None:
    """A session that waits for its link to be followed."""
    return await tx.row(
        Unproved,
        """
        SELECT address, expires_ms FROM threepid_sessions
        WHERE sid = %(sid)s AND validated_ms IS NULL AND expires_ms > %(now)s
        """,
        sid=sid,
        now=now_ms,
    )


async def insert_token(tx: Tx, digest: bytes, sid: str, expires_ms: int) -> None:
    await tx.execute(
        "INSERT INTO threepid_tokens (hash, sid, expires_ms) VALUES (%(hash)s, %(sid)s, %(expires)s)",
        hash=digest,
        sid=sid,
        expires=expires_ms,
    )


async def find_by_token(tx: Tx, digest: bytes, now_ms: int) -> Confirmed | None:
    """What the link of a mail is about; None if it is unknown, used or expired."""
    return await tx.row(
        Confirmed,
        """
        SELECT s.purpose, s.address, s.next_link FROM threepid_tokens t JOIN threepid_sessions s USING (sid)
        WHERE t.hash = %(hash)s AND t.expires_ms > %(now)s AND s.expires_ms > %(now)s
        """,
        hash=digest,
        now=now_ms,
    )


async def confirm(tx: Tx, digest: bytes, now_ms: int, expires_ms: int) -> Confirmed | None:
    """Note that the link was followed; doing so twice changes nothing. None as `find_by_token`."""
    return await tx.row(
        Confirmed,
        """
        UPDATE threepid_sessions s
        SET validated_ms = coalesce(s.validated_ms, %(now)s),
            expires_ms = CASE WHEN s.validated_ms IS NULL THEN %(expires)s ELSE s.expires_ms END
        FROM threepid_tokens t
        WHERE t.hash = %(hash)s AND t.sid = s.sid AND t.expires_ms > %(now)s AND s.expires_ms > %(now)s
        RETURNING s.purpose, s.address, s.next_link
        """,
        hash=digest,
        now=now_ms,
        expires=expires_ms,
    )


async def find_proof(tx: Tx, sid: str, secret_hash: bytes, purpose: str, now_ms: int) -> Proof | None:
    """A session in which the link was followed."""
    return await tx.row(
        Proof,
        """
        SELECT sid, medium, address, validated_ms FROM threepid_sessions
        WHERE sid = %(sid)s AND secret_hash = %(secret)s AND purpose = %(purpose)s AND validated_ms IS NOT NULL
              AND expires_ms > %(now)s
        """,
        sid=sid,
        secret=secret_hash,
        purpose=purpose,
        now=now_ms,
    )


async def delete_session(tx: Tx, sid: str) -> bool:
    """With its tokens. False if there is none (any more)."""
    return await tx.execute("DELETE FROM threepid_sessions WHERE sid = %(sid)s", sid=sid) == 1


async def delete_expired(tx: Tx, now_ms: int) -> None:
    await tx.execute("DELETE FROM threepid_sessions WHERE expires_ms <= %(now)s", now=now_ms)


# --- identity servers --------------------------------------------------------------------------------------------


async def insert_bound(  # noqa: PLR0917  # one value each, called in one place
    tx: Tx, user_nid: int, medium: str, address: str, id_server: str, most: int
) -> None:
    """Remember that an identity server was told; not beyond so many of a user."""
    await tx.execute(
        """
        INSERT INTO bound_addresses (user_nid, medium, address, id_server)
        SELECT %(user)s, %(medium)s, %(address)s, %(server)s
        WHERE (SELECT count(*) FROM bound_addresses WHERE user_nid = %(user)s) < %(most)s
        ON CONFLICT DO NOTHING
        """,
        user=user_nid,
        medium=medium,
        address=address,
        server=id_server,
        most=most,
    )


async def find_bound(tx: Tx, user_nid: int) -> list[Bound]:
    """All of a user."""
    return await tx.rows(
        Bound,
        "SELECT medium, address, id_server FROM bound_addresses WHERE user_nid = %(user)s",
        user=user_nid,
    )


async def delete_bound(tx: Tx, user_nid: int, medium: str, address: str, id_servers: Sequence[str]) -> None:
    """These servers have forgotten it."""
    await tx.execute(
        """
        DELETE FROM bound_addresses WHERE user_nid = %(user)s AND medium = %(medium)s AND address = %(address)s
            AND id_server = ANY(%(servers)s::text[])
        """,
        user=user_nid,
        medium=medium,
        address=address,
        servers=list(id_servers),
    )


async def delete_all_bound(tx: Tx, user_nid: int) -> None:
    """Their account has ended."""
    await tx.execute("DELETE FROM bound_addresses WHERE user_nid = %(user)s", user=user_nid)
