"""SQL of what is staged. All times are the database's; durations in seconds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import LiteralString

from federation.inbound.types import Answered, Deferred, Full, Pdu, RoomStaged, Staged
from homeserver.events.event import Event
from homeserver.graph.refs import OUTLIER
from homeserver.matrix.ids import EventId, ServerName
from homeserver.storage.database import Database
from homeserver.storage.tx import Later, Pipeline, Tx

CHANNEL: LiteralString = "atrium_inbound"
"""Where a process hears that something was staged for a room that it works on: the payload is the room's number."""
REMEMBERED = 32
"""Transactions of an origin whose answers are kept. It sends one at a time, and the next when it has the answer (FED-08)."""
REMEMBERED_DAYS = 1


_FORGET: LiteralString = """
    DELETE FROM federation_transactions WHERE transaction_nid <= (
        SELECT o.transaction_nid FROM federation_transactions o WHERE o.origin = %(origin)s
        ORDER BY o.transaction_nid DESC OFFSET %(remembered)s LIMIT 1
    ) AND origin = %(origin)s
"""
_STAGE_FORM: LiteralString = """
    WITH waiting AS (
        SELECT count(*) AS events, coalesce(sum(size), 0) AS bytes
        FROM (SELECT size FROM federation_staged WHERE origin = %(origin)s LIMIT %(most_events)s) w
    ), transaction AS (
        INSERT INTO federation_transactions (origin, txn_id, answer)
        SELECT %(origin)s, %(txn)s, %(answer)s FROM waiting
        WHERE events + %(count)s <= %(most_events)s AND bytes + %(size)s <= %(most_bytes)s
        ON CONFLICT (origin, txn_id) DO NOTHING RETURNING transaction_nid
    ), staged AS (
        INSERT INTO federation_staged (room_nid, origin, event_id, size, pdu)
        SELECT p.room, %(origin)s, p.id, octet_length(p.pdu), p.pdu
        FROM transaction, unnest(%(rooms)s::bigint[], %(ids)s::text[], %(pdus)s::bytea[])
             WITH ORDINALITY AS p (room, id, pdu, place)
        ORDER BY place
        ON CONFLICT (room_nid, event_id, origin) DO NOTHING RETURNING staged_nid, room_nid, event_id
    ), rooms AS (
        INSERT INTO federation_staged_rooms AS r (room_nid, version, owner, lease_until)
        SELECT room, 1, %(owner)s, statement_timestamp() + %(lease)s * interval '1 second'
        FROM transaction, unnest(%(distinct)s::bigint[]) AS room,
             (SELECT count(*) AS rows FROM staged) AS first -- rows before rooms, as who finishes them locks them
        ORDER BY room
        ON CONFLICT (room_nid) DO UPDATE SET version = r.version + 1, retry_at = NULL,
            owner = CASE WHEN r.owner IS NULL OR r.lease_until < statement_timestamp()
                         THEN excluded.owner ELSE r.owner END,
            lease_until = CASE WHEN r.owner IS NULL OR r.lease_until < statement_timestamp()
                               THEN excluded.lease_until ELSE r.lease_until END
        RETURNING room_nid, owner, version
    ), forgotten AS (
        {forget}
    )
    SELECT 't', count(*), '', 0::bigint FROM transaction
    UNION ALL SELECT 'r', room_nid, coalesce(owner, ''), version FROM rooms
    UNION ALL SELECT 's', staged_nid, event_id, room_nid FROM staged
"""
_STAGE: LiteralString = _STAGE_FORM.format(forget=_FORGET)
_REMEMBER_FORM: LiteralString = """
    WITH forgotten AS ({forget})
    INSERT INTO federation_transactions (origin, txn_id, answer) VALUES (%(origin)s, %(txn)s, %(answer)s)
"""
_REMEMBER: LiteralString = _REMEMBER_FORM.format(forget=_FORGET)


async def stage(  # noqa: PLR0917  # one value each, called in one place
    db: Database,
    origin: ServerName,
    txn_id: str,
    answer: bytes,
    pdus: Sequence[Pdu],
    owner: str | None,
    lease: float,
    bounds: tuple[int, int],
) -> Answered:
    """Write a transaction and its events, all or nothing, in one flight; rooms that nobody works on become `owner`'s.

    `bounds`: the events and bytes that the origin may have staged. Raises `Full`.
    """
    async with db.transaction() as tx, tx.pipeline(commit=True) as batch:
        later = batch.all(
            _STAGE,
            origin=origin,
            txn=txn_id,
            answer=answer,
            count=len(pdus),
            size=sum(len(pdu.event.pdu) for pdu in pdus),
            most_events=bounds[0],
            most_bytes=bounds[1],
            rooms=[pdu.room_nid for pdu in pdus],
            ids=[pdu.event.event_id for pdu in pdus],
            pdus=[pdu.event.pdu for pdu in pdus],
            distinct=sorted({pdu.room_nid for pdu in pdus}),
            owner=owner,
            lease=lease,
            remembered=REMEMBERED,
        )
    rows = later.result
    if ("t", 1, "", 0) in rows:
        return Answered(_by_room(rows, origin, {pdu.event.event_id: pdu.event for pdu in pdus}), None)
    async with db.read() as tx:
        repeated = await find_answer(tx, origin, txn_id)
    if repeated is None:
        raise Full
    return Answered([], repeated)


def remember(batch: Pipeline, transaction: tuple[ServerName, str, bytes]) -> None:
    """Keep the answer of a transaction, (origin, transaction id, answer), and drop old ones of the origin.

    `UniqueViolation` when the batch is sent: the transaction was answered before.
    """
    origin, txn_id, answer = transaction
    batch.execute(_REMEMBER, origin=origin, txn=txn_id, answer=answer, remembered=REMEMBERED)


def _by_room(
    rows: Sequence[tuple[str, int, str, int]], origin: ServerName, events: dict[EventId, Event]
) -> list[RoomStaged]:
    rooms = {nid: RoomStaged(nid, owner or None, version, []) for k, nid, owner, version in rows if k == "r"}
    staged = sorted((nid, EventId(name), room) for kind, nid, name, room in rows if kind == "s")
    for nid, event_id, room_nid in staged:
        event = events[event_id]
        rooms[room_nid].rows.append(Staged(nid, origin, event_id, event.pdu, 0, event))
    return list(rooms.values())


async def find_answer(tx: Tx, origin: ServerName, txn_id: str) -> bytes | None:
    """What a transaction was answered with; None for one that is not known (any more)."""
    answer: bytes | None = await tx.value(
        "SELECT answer FROM federation_transactions WHERE origin = %(origin)s AND txn_id = %(txn)s",
        origin=origin,
        txn=txn_id,
    )
    return answer


async def notify(tx: Tx, room_nids: Collection[int]) -> None:
    """Tell the processes that work on these rooms that more was staged."""
    await tx.all(
        "SELECT pg_notify('atrium_inbound', room::text) FROM unnest(%(rooms)s::bigint[]) AS room",
        rooms=list(room_nids),
    )


async def forget_transactions(tx: Tx) -> int:
    """Those of origins that have sent nothing for long."""
    return await tx.execute(
        """
        DELETE FROM federation_transactions
        WHERE received_at < statement_timestamp() - %(days)s * interval '1 day'
        """,
        days=REMEMBERED_DAYS,
    )


# --- working on rooms --------------------------------------------------------------------------------------------


def find_version(batch: Pipeline, room_nid: int, owner: str) -> Later[tuple[int] | None]:
    """The room's version, if it is still `owner`'s."""
    return batch.one(
        "SELECT version FROM federation_staged_rooms WHERE room_nid = %(room)s AND owner = %(owner)s",
        room=room_nid,
        owner=owner,
    )


def find_staged(
    batch: Pipeline, room_nid: int, held: Collection[int], bounds: tuple[int, int, int]
) -> Later[list[Staged]]:
    """What is staged for a room and due, oldest first, without what is `held`; at least one row, if there is one.

    `bounds`: how many, how many of one origin, and how many bytes.
    """
    return batch.rows(
        _staged,
        """
        SELECT s.staged_nid, s.origin, s.event_id, s.pdu, s.attempts
        FROM (
            SELECT staged_nid, row_number() OVER (ORDER BY staged_nid) AS place,
                   sum(size) OVER (ORDER BY staged_nid) AS bytes
            FROM (
                SELECT staged_nid, size, row_number() OVER (PARTITION BY origin ORDER BY staged_nid) AS place
                FROM federation_staged
                WHERE room_nid = %(room)s AND staged_nid <> ALL(%(held)s::bigint[])
                  AND (retry_at IS NULL OR retry_at <= statement_timestamp())
            ) due WHERE place <= %(each)s
        ) chosen JOIN federation_staged s USING (staged_nid)
        WHERE chosen.place <= %(limit)s AND (chosen.bytes <= %(bytes)s OR chosen.place = 1)
        ORDER BY s.staged_nid
        """,
        room=room_nid,
        held=list(held),
        limit=bounds[0],
        each=bounds[1],
        bytes=bounds[2],
    )


def _staged(staged_nid: int, origin: ServerName, event_id: EventId, pdu: bytes, attempts: int) -> Staged:
    return Staged(staged_nid, origin, event_id, pdu, attempts)


def count_due(batch: Pipeline, room_nid: int, held: Collection[int]) -> Later[tuple[int] | None]:
    """How many rows are due, without those `held`."""
    return batch.one(
        """
        SELECT count(*) FROM federation_staged
        WHERE room_nid = %(room)s AND staged_nid <> ALL(%(held)s::bigint[])
          AND (retry_at IS NULL OR retry_at <= statement_timestamp())
        """,
        room=room_nid,
        held=list(held),
    )


def finish(batch: Pipeline, staged_nids: Collection[int]) -> None:
    """These are in their room, or never will be. That it survives a crash of the database is not waited for: they would be
    found to be there.
    """
    batch.execute("SET LOCAL synchronous_commit = off")
    batch.execute(
        "DELETE FROM federation_staged WHERE staged_nid = ANY(%(nids)s::bigint[])", nids=list(staged_nids)
    )


def defer(batch: Pipeline, rows: Sequence[Deferred]) -> None:
    """These are tried again later."""
    batch.execute(
        """
        UPDATE federation_staged s SET attempts = d.attempts,
            retry_at = statement_timestamp() + d.pause * interval '1 second',
            lacks_prev = string_to_array(d.prev, ' '), lacks_auth = string_to_array(d.auth, ' ')
        FROM unnest(%(nids)s::bigint[], %(attempts)s::smallint[], %(pauses)s::float8[], %(prev)s::text[], %(auth)s::text[])
             AS d (nid, attempts, pause, prev, auth)
        WHERE s.staged_nid = d.nid
        """,
        nids=[row.staged_nid for row in rows],
        attempts=[row.attempts for row in rows],
        pauses=[row.pause for row in rows],
        prev=[" ".join(row.lacks_prev) for row in rows],  # no event id has a space
        auth=[" ".join(row.lacks_auth) for row in rows],
    )


def find_waiting(batch: Pipeline, most: int) -> Later[list[tuple[int]]]:
    """Rooms in which something is tried again later."""
    return batch.all(
        "SELECT room_nid FROM federation_staged_rooms WHERE retry_at IS NOT NULL LIMIT %(most)s", most=most
    )


def find_lacking(
    batch: Pipeline, room_nids: Collection[int], most: int
) -> Later[list[tuple[int, list[EventId]]]]:
    """What is waited for in these rooms: (room_nid, event ids) for each staged event."""
    return batch.all(
        """
        SELECT room_nid, lacks_prev || lacks_auth FROM federation_staged
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND retry_at IS NOT NULL LIMIT %(most)s
        """,
        rooms=list(room_nids),
        most=most,
    )


def wake(batch: Pipeline, room_nids: Collection[int]) -> Later[list[tuple[int, str | None]]]:
    """What waits in these rooms for something that is here by now is due at once. (room_nid, owner or None) of rooms where that is
    so; their versions move on, so that whoever is at work there looks again. The next attempt is none more.
    """
    return batch.all(
        """
        WITH due AS (
            UPDATE federation_staged s SET retry_at = NULL, attempts = greatest(s.attempts - 1, 0)
            WHERE s.room_nid = ANY(%(rooms)s::bigint[]) AND s.retry_at > statement_timestamp() AND (
                EXISTS (SELECT FROM unnest(s.lacks_prev) AS l (id) JOIN events e ON e.event_id = l.id
                        AND e.moved_to IS NULL AND e.room_nid = s.room_nid AND e.flags & %(outlier)s = 0)
                OR EXISTS (SELECT FROM unnest(s.lacks_auth) AS l (id) JOIN events e ON e.event_id = l.id
                           AND e.moved_to IS NULL AND e.room_nid = s.room_nid)
            ) RETURNING s.room_nid
        )
        UPDATE federation_staged_rooms r SET retry_at = NULL, version = r.version + 1
        WHERE r.room_nid IN (SELECT room_nid FROM due) RETURNING r.room_nid, r.owner
        """,
        rooms=list(room_nids),
        outlier=OUTLIER,
    )


def release(batch: Pipeline, room_nid: int, owner: str, version: int) -> tuple[Later[int], Later[int]]:
    """Give a room up if nothing was staged since `version`: 1 in one of both results, 0 in both if something was."""
    gone = batch.execute(
        """
        DELETE FROM federation_staged_rooms
        WHERE room_nid = %(room)s AND owner = %(owner)s AND version = %(version)s
          AND NOT EXISTS (SELECT FROM federation_staged WHERE room_nid = %(room)s)
        """,
        room=room_nid,
        owner=owner,
        version=version,
    )
    left = batch.execute(
        """
        UPDATE federation_staged_rooms SET owner = NULL, lease_until = NULL,
            retry_at = (SELECT min(retry_at) FROM federation_staged WHERE room_nid = %(room)s)
        WHERE room_nid = %(room)s AND owner = %(owner)s AND version = %(version)s
        """,
        room=room_nid,
        owner=owner,
        version=version,
    )
    return gone, left


# --- leases ------------------------------------------------------------------------------------------------------


async def anything_free(tx: Tx) -> bool:
    """Whether there is a room that nobody works on, and somebody should."""
    return bool(
        await tx.value(
            """
            SELECT EXISTS (SELECT FROM federation_staged_rooms
                           WHERE (owner IS NULL OR lease_until < statement_timestamp())
                             AND (retry_at IS NULL OR retry_at <= statement_timestamp()))
            """
        )
    )


def renew(batch: Pipeline, owner: str, room_nids: Collection[int], lease: float) -> Later[list[tuple[int]]]:
    """The rooms that are still the owner's."""
    batch.execute("SET LOCAL synchronous_commit = off")
    return batch.all(
        """
        UPDATE federation_staged_rooms SET lease_until = statement_timestamp() + %(lease)s * interval '1 second'
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND owner = %(owner)s RETURNING room_nid
        """,
        rooms=list(room_nids),
        owner=owner,
        lease=lease,
    )


def take(batch: Pipeline, owner: str, limit: int, lease: float) -> Later[list[tuple[int]]]:
    """Rooms that nobody works on: whose process is gone, or where something is due again."""
    return batch.all(
        """
        UPDATE federation_staged_rooms SET owner = %(owner)s, retry_at = NULL,
            lease_until = statement_timestamp() + %(lease)s * interval '1 second'
        WHERE room_nid IN (
            SELECT room_nid FROM federation_staged_rooms
            WHERE (owner IS NULL OR lease_until < statement_timestamp())
              AND (retry_at IS NULL OR retry_at <= statement_timestamp())
            ORDER BY retry_at NULLS FIRST LIMIT %(limit)s FOR UPDATE SKIP LOCKED
        ) RETURNING room_nid
        """,
        owner=owner,
        limit=limit,
        lease=lease,
    )


async def give_up_all(tx: Tx, owner: str) -> None:
    """An orderly end: others may go on at once."""
    await tx.execute(
        "UPDATE federation_staged_rooms SET owner = NULL, lease_until = NULL WHERE owner = %(owner)s",
        owner=owner,
    )


async def count_staged(tx: Tx) -> tuple[int, int]:
    """Events staged, and the bytes that they take on disk, with what was and is not cleaned up yet."""
    row = await tx.one(
        "SELECT (SELECT count(*) FROM federation_staged), pg_total_relation_size('federation_staged')"
    )
    assert row is not None
    return row[0], row[1]
