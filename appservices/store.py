"""SQL of application services: registrations, what was begun to be told, and who is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.graph.refs import JOIN
from homeserver.log.entries import Position
from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Pipeline, Tx

# --- registrations -----------------------------------------------------------------------------------------------


class RegistrationRow(NamedTuple):
    """A registration in the database."""

    id: str
    token_hash: bytes
    registration: bytes
    """JSON, see `registration.KEPT`."""


async def list_registrations(tx: Tx) -> list[RegistrationRow]:
    return await tx.rows(
        RegistrationRow, "SELECT id, token_hash, registration FROM appservices ORDER BY created_ms, id"
    )


def upsert_registration(batch: Pipeline, row: RegistrationRow, now_ms: int) -> None:
    """Keep a registration, in place of the one before with its id."""
    batch.execute(
        """
        INSERT INTO appservices (id, token_hash, registration, created_ms)
        VALUES (%(id)s, %(hash)s, %(registration)s, %(now)s)
        ON CONFLICT (id) DO UPDATE SET token_hash = excluded.token_hash, registration = excluded.registration
        """,
        id=row.id,
        hash=row.token_hash,
        registration=row.registration,
        now=now_ms,
    )


def delete_registration(batch: Pipeline, service_id: str) -> None:
    """With what was begun to be told."""
    batch.execute("DELETE FROM appservices WHERE id = %(id)s", id=service_id)
    batch.execute("DELETE FROM appservice_transactions WHERE service_id = %(id)s", id=service_id)


# --- transactions ------------------------------------------------------------------------------------------------


class BegunRow(NamedTuple):
    """The last transaction that was begun."""

    upto: Position
    positions: Sequence[Position]


class StandingRow(NamedTuple):
    """How it is with a service."""

    service_id: str
    upto: Position
    """Of the last transaction that was begun."""
    failing_since_ms: int | None
    reason: str | None


async def find_begun(tx: Tx, service_id: str) -> BegunRow | None:
    return await tx.row(
        BegunRow,
        "SELECT upto, positions FROM appservice_transactions WHERE service_id = %(id)s",
        id=service_id,
    )


async def begin(
    tx: Tx, service_id: str, before: Position, upto: Position, positions: Sequence[Position]
) -> bool:
    """Note the next transaction. `before`: `upto` of the last one, 0 if there was none. False: that is another."""
    count = await tx.execute(
        """
        INSERT INTO appservice_transactions AS t (service_id, upto, positions)
        SELECT %(id)s, %(upto)s, %(positions)s::bigint[]
        WHERE %(before)s = 0 OR EXISTS (SELECT FROM appservice_transactions WHERE service_id = %(id)s)
        ON CONFLICT (service_id) DO UPDATE SET upto = excluded.upto, positions = excluded.positions
            WHERE t.upto = %(before)s
        """,
        id=service_id,
        before=before,
        upto=upto,
        positions=list(positions),
    )
    return count == 1


async def note_failing(tx: Tx, service_id: str, since_ms: int | None, reason: str | None) -> None:
    """Since when a service takes nothing, and why; None: it does."""
    await tx.execute(
        """
        UPDATE appservice_transactions SET failing_since_ms = %(since)s, reason = %(reason)s
        WHERE service_id = %(id)s
        """,
        id=service_id,
        since=since_ms,
        reason=reason,
    )


async def list_standing(tx: Tx) -> list[StandingRow]:
    return await tx.rows(
        StandingRow, "SELECT service_id, upto, failing_since_ms, reason FROM appservice_transactions"
    )


async def find_devices(tx: Tx, service_id: str, sender: UserId, limit: int) -> list[tuple[int, str]]:
    """(user_nid, device_id) of devices of a service's users, those that were made last."""
    return await tx.all(
        """
        SELECT d.user_nid, d.device_id FROM accounts JOIN users USING (user_nid) JOIN devices d USING (user_nid)
        WHERE appservice_id = %(id)s OR user_id = %(sender)s ORDER BY d.created_ms DESC LIMIT %(limit)s
        """,
        id=service_id,
        sender=sender,
        limit=limit,
    )


# --- interest ----------------------------------------------------------------------------------------------------


class StayRow(NamedTuple):
    """What has become of a local user's membership in a room."""

    user_nid: int
    user_id: UserId
    position: Position
    membership: int


async def read_room(tx: Tx, room_nid: int) -> tuple[Position, list[StayRow], list[str]]:
    """The log's position; all memberships of local users there ever were in a room, in log order; its aliases.

    `tx`: one snapshot.
    """
    async with tx.pipeline() as batch:
        head = batch.one("SELECT position FROM log_head")
        stays = batch.rows(
            StayRow,
            """
            SELECT m.user_nid, u.user_id, m.event_nid, m.membership
            FROM memberships m JOIN accounts USING (user_nid) JOIN users u USING (user_nid)
            WHERE m.room_nid = %(room)s ORDER BY m.event_nid
            """,
            room=room_nid,
        )
        aliases = batch.all(
            "SELECT alias FROM room_aliases WHERE room_nid = %(room)s LIMIT 1000", room=room_nid
        )
    assert head.result is not None
    return head.result[0], stays.result, [row[0] for row in aliases.result]


async def find_accounts(tx: Tx, user_nids: Sequence[int]) -> list[tuple[int, UserId, str | None]]:
    """(user_nid, user_id, the service that made the account) of local users."""
    return await tx.all(
        """
        SELECT user_nid, user_id, appservice_id FROM accounts JOIN users USING (user_nid)
        WHERE user_nid = ANY(%(users)s::bigint[])
        """,
        users=list(user_nids),
    )


async def list_encrypted(tx: Tx, room_nids: Sequence[int], key_nid: int) -> list[int]:
    """Which of some rooms are encrypted. `key_nid`: of `m.room.encryption`."""
    return await tx.column(
        "SELECT room_nid FROM current_state WHERE room_nid = ANY(%(rooms)s::bigint[]) AND key_nid = %(key)s",
        rooms=list(room_nids),
        key=key_nid,
    )


async def list_joined(tx: Tx, room_nids: Sequence[int], limit: int) -> list[tuple[int, int]]:
    """(room_nid, user_nid) of who is joined to some rooms, at most so many, those who were made known first."""
    return await tx.all(
        """
        SELECT room_nid, user_nid FROM current_state
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND membership = %(join)s ORDER BY user_nid LIMIT %(limit)s
        """,
        rooms=list(room_nids),
        join=JOIN,
        limit=limit,
    )


async def list_encrypted_rooms_of(
    tx: Tx, user_nids: Sequence[int], key_nid: int, limit: int
) -> list[tuple[int, int]]:
    """(user_nid, room_nid) of encrypted rooms that some users are joined to, at most so many."""
    return await tx.all(
        """
        SELECT c.user_nid, c.room_nid
        FROM current_state c JOIN current_state e ON e.room_nid = c.room_nid AND e.key_nid = %(key)s
        WHERE c.user_nid = ANY(%(users)s::bigint[]) AND c.membership = %(join)s LIMIT %(limit)s
        """,
        users=list(user_nids),
        key=key_nid,
        join=JOIN,
        limit=limit,
    )
