"""SQL of mails about what is unread. When a job is due is said by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from homeserver.log.entries import Position
from homeserver.push.mail.types import Digest, RoomTold
from homeserver.push.pushers.types import MAIL_APP
from homeserver.storage.tx import Pipeline, Tx

_OF_ADDRESS: LiteralString = "user_nid = %(user)s AND app_id = %(app)s AND address = %(address)s"
_DIGEST: LiteralString = "user_nid, address, since, run, seen_upto, letter_upto, hour_ms, letters"


async def ensure(tx: Tx, user_nid: int, address: str, since: Position) -> None:
    """Have a row for a pusher that has none. Nothing happens if there is no such pusher (any more)."""
    await tx.execute(
        """
        INSERT INTO mail_digests (user_nid, app_id, address, since)
        SELECT user_nid, app_id, pushkey, %(since)s FROM pushers
        WHERE user_nid = %(user)s AND app_id = %(app)s AND pushkey = %(address)s AND kind = 'email'
        ON CONFLICT DO NOTHING
        """,
        user=user_nid,
        app=MAIL_APP,
        address=address,
        since=since,
    )


class Due(NamedTuple):
    """When the next look at what is unread is."""

    wait: float | None
    """In so many seconds, 0 or less: it has begun, or should have; None: none is to come."""


async def lock_due(tx: Tx, user_nid: int, address: str) -> Due | None:
    """Locked until the transaction ends. None: there is no such pusher."""
    return await tx.row(
        Due,
        "SELECT extract(epoch FROM due_at - statement_timestamp())::float8 FROM mail_digests WHERE "  # noqa: S608
        + _OF_ADDRESS
        + " FOR NO KEY UPDATE",
        user=user_nid,
        app=MAIL_APP,
        address=address,
    )


async def schedule(tx: Tx, user_nid: int, address: str, after: float) -> int:
    """The next look in `after` seconds, by the job whose `run` is returned. The row is there and locked."""
    return int(
        await tx.value(
            """
            UPDATE mail_digests
            SET run = run + 1, due_at = statement_timestamp() + %(after)s * interval '1 second'
            WHERE """  # noqa: S608  # a literal
            + _OF_ADDRESS
            + " RETURNING run",
            user=user_nid,
            app=MAIL_APP,
            address=address,
            after=after,
        )
    )


async def reschedule(tx: Tx, digest: Digest, seen_upto: Position, after: float) -> bool:
    """The next look in `after` seconds; false if something else was scheduled meanwhile."""
    return (
        await tx.execute(
            """
            UPDATE mail_digests
            SET run = run + 1, due_at = statement_timestamp() + %(after)s * interval '1 second',
                seen_upto = %(seen)s, letter_upto = NULL
            WHERE """  # noqa: S608  # a literal
            + _OF_ADDRESS
            + " AND run = %(run)s",
            user=digest.user_nid,
            app=MAIL_APP,
            address=digest.address,
            run=digest.run,
            seen=seen_upto,
            after=after,
        )
        == 1
    )


def finish(batch: Pipeline, digest: Digest) -> None:
    """Nothing is left to be told of; unless something else was scheduled meanwhile."""
    batch.execute(
        """
        UPDATE mail_digests
        SET due_at = CASE WHEN run = %(run)s THEN NULL ELSE due_at END, letter_upto = NULL
        WHERE """  # noqa: S608  # a literal
        + _OF_ADDRESS,
        user=digest.user_nid,
        app=MAIL_APP,
        address=digest.address,
        run=digest.run,
    )


async def find(tx: Tx, user_nid: int, address: str) -> Digest | None:
    return await tx.row(
        Digest,
        "SELECT " + _DIGEST + " FROM mail_digests WHERE " + _OF_ADDRESS,  # noqa: S608  # literals
        user=user_nid,
        app=MAIL_APP,
        address=address,
    )


async def list_rooms(tx: Tx, digest: Digest) -> list[RoomTold]:
    """Of which rooms letters have told."""
    return await tx.rows(
        RoomTold,
        "SELECT room_nid, told_upto, sent_ms, pause_ms FROM mail_digest_rooms WHERE "  # noqa: S608  # literals
        + _OF_ADDRESS,
        user=digest.user_nid,
        app=MAIL_APP,
        address=digest.address,
    )


async def begin_letter(tx: Tx, digest: Digest, upto: Position, hash_: bytes, expires_ms: int) -> None:
    """A letter about what came up to a position is about to be sent, with an unsubscribe token."""
    async with tx.pipeline() as batch:
        batch.execute(
            "UPDATE mail_digests SET letter_upto = %(upto)s WHERE " + _OF_ADDRESS,  # noqa: S608  # a literal
            user=digest.user_nid,
            app=MAIL_APP,
            address=digest.address,
            upto=upto,
        )
        batch.execute(
            """
            INSERT INTO unsubscribe_tokens (hash, user_nid, app_id, address, expires_ms)
            SELECT %(hash)s, user_nid, app_id, address, %(expires)s FROM mail_digests WHERE """  # noqa: S608
            + _OF_ADDRESS,
            user=digest.user_nid,
            app=MAIL_APP,
            address=digest.address,
            hash=hash_,
            expires=expires_ms,
        )


def note_letter(
    batch: Pipeline, digest: Digest, rooms: Sequence[RoomTold], hour_ms: int, letters: int
) -> None:
    """A letter was taken: what it has told, and how many there were in the hour that began at `hour_ms`."""
    batch.execute(
        """
        INSERT INTO mail_digest_rooms (user_nid, app_id, address, room_nid, told_upto, sent_ms, pause_ms)
        SELECT user_nid, app_id, address, room_nid, told, sent, pause
        FROM mail_digests,
             unnest(%(rooms)s::bigint[], %(told)s::bigint[], %(sent)s::bigint[], %(pauses)s::bigint[])
             AS row (room_nid, told, sent, pause)
        WHERE """  # noqa: S608  # a literal
        + _OF_ADDRESS
        + """
        ON CONFLICT (user_nid, app_id, address, room_nid) DO UPDATE
            SET told_upto = excluded.told_upto, sent_ms = excluded.sent_ms, pause_ms = excluded.pause_ms
        """,
        user=digest.user_nid,
        app=MAIL_APP,
        address=digest.address,
        rooms=[each.room_nid for each in rooms],
        told=[each.told_upto for each in rooms],
        sent=[each.sent_ms for each in rooms],
        pauses=[each.pause_ms for each in rooms],
    )
    batch.execute(
        "UPDATE mail_digests SET hour_ms = %(hour)s, letters = %(letters)s WHERE " + _OF_ADDRESS,  # noqa: S608
        user=digest.user_nid,
        app=MAIL_APP,
        address=digest.address,
        hour=hour_ms,
        letters=letters,
    )


def delete_rooms(batch: Pipeline, digest: Digest, room_nids: Sequence[int]) -> None:
    """What letters told of these rooms is read."""
    batch.execute(
        "DELETE FROM mail_digest_rooms WHERE "  # noqa: S608  # literals
        + _OF_ADDRESS
        + " AND room_nid = ANY(%(rooms)s::bigint[])",
        user=digest.user_nid,
        app=MAIL_APP,
        address=digest.address,
        rooms=list(room_nids),
    )


class Subscription(NamedTuple):
    """Whose mails an unsubscribe token ends."""

    user_nid: int
    address: str


async def find_by_token(tx: Tx, hash_: bytes, now_ms: int) -> Subscription | None:
    """None if the token is unknown, expired, or was used."""
    return await tx.row(
        Subscription,
        "SELECT user_nid, address FROM unsubscribe_tokens WHERE hash = %(hash)s AND expires_ms > %(now)s",
        hash=hash_,
        now=now_ms,
    )


async def delete_expired(tx: Tx, now_ms: int) -> None:
    await tx.execute("DELETE FROM unsubscribe_tokens WHERE expires_ms <= %(now)s", now=now_ms)
