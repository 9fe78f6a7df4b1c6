"""SQL of delayed events. All times in ms since 1970."""

from __future__ import annotations

from homeserver.delayed.types import Delayed, Listed, NewDelayed, Outcome, Page, Scheduled, Wanted
from homeserver.storage.tx import Later, Pipeline, Tx


def lock_user(batch: Pipeline, user_nid: int) -> Later[int]:
    """One at a time adds to what a user has scheduled: it is counted."""
    return batch.execute("SELECT FROM users WHERE user_nid = %(user)s FOR NO KEY UPDATE", user=user_nid)


def find_repeated(batch: Pipeline, user_nid: int, txn_hash: bytes | None) -> Later[tuple[str] | None]:
    """(delay_id,) of what was scheduled by the same transaction."""
    return batch.one(
        "SELECT delay_id FROM delayed_events WHERE user_nid = %(user)s AND txn_hash = %(txn)s",
        user=user_nid,
        txn=txn_hash,
    )


def find_scheduled(batch: Pipeline, user_nid: int) -> Later[list[Scheduled]]:
    """One row."""
    return batch.rows(
        Scheduled,
        """
        SELECT count(*), coalesce(sum(length(content)), 0)::bigint, min(due_ms) FROM delayed_events
        WHERE user_nid = %(user)s AND finalised_ms IS NULL
        """,
        user=user_nid,
    )


def insert(batch: Pipeline, new: NewDelayed) -> Later[int]:
    """Keep a delayed event."""
    return batch.execute(
        """
        INSERT INTO delayed_events (delay_id, user_nid, appservice_id, txn_hash, room_id, type, state_key, content,
                                    origin_server_ts, delay_ms, since_ms, due_ms, since_position, sticky_ms)
        VALUES (%(delay_id)s, %(user_nid)s, %(appservice_id)s, %(txn_hash)s, %(room_id)s, %(type)s, %(state_key)s,
                %(content)s, %(origin_server_ts)s, %(delay_ms)s, %(since_ms)s,
                %(since_ms)s::bigint + %(delay_ms)s::bigint, %(since_position)s, %(sticky_ms)s)
        """,
        **new._asdict(),
    )


def delete_surplus(batch: Pipeline, user_nid: int, most: int, most_bytes: int) -> Later[int]:
    """Forget a user's oldest finalised events beyond a number, and beyond a number of bytes of content."""
    return batch.execute(
        """
        DELETE FROM delayed_events WHERE delayed_nid IN (
            SELECT delayed_nid FROM (
                SELECT delayed_nid, row_number() OVER newest AS place, sum(length(content)) OVER newest AS bytes
                FROM delayed_events WHERE user_nid = %(user)s AND finalised_ms IS NOT NULL
                WINDOW newest AS (ORDER BY finalised_ms DESC, delayed_nid DESC)) AS counted
            WHERE place > %(most)s OR bytes > %(most_bytes)s)
        """,
        user=user_nid,
        most=most,
        most_bytes=most_bytes,
    )


async def claim_due(tx: Tx, now_ms: int, until_ms: int, limit: int) -> list[Delayed]:
    """Up to `limit` events that are due and that nobody else sends, the longest due first; they are this process's until then."""
    return await tx.rows(
        Delayed,
        """
        UPDATE delayed_events SET claimed_until_ms = %(until)s, attempts = attempts + 1
        WHERE delayed_nid IN (
            SELECT delayed_nid FROM delayed_events
            WHERE finalised_ms IS NULL AND due_ms <= %(now)s AND claimed_until_ms <= %(now)s
            ORDER BY due_ms LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        RETURNING delayed_nid, delay_id, user_nid, appservice_id, room_id, type, state_key, content, origin_server_ts,
                  since_position, attempts, due_ms, sticky_ms
        """,
        now=now_ms,
        until=until_ms,
        limit=limit,
    )


async def claim(tx: Tx, delay_id: str, now_ms: int, until_ms: int) -> Delayed | None:
    """As `claim_due`, one that is scheduled, due or not."""
    return await tx.row(
        Delayed,
        """
        UPDATE delayed_events SET claimed_until_ms = %(until)s
        WHERE delay_id = %(delay_id)s AND finalised_ms IS NULL AND claimed_until_ms <= %(now)s
        RETURNING delayed_nid, delay_id, user_nid, appservice_id, room_id, type, state_key, content, origin_server_ts,
                  since_position, attempts, due_ms, sticky_ms
        """,
        delay_id=delay_id,
        now=now_ms,
        until=until_ms,
    )


async def release(tx: Tx, delayed_nid: int, again_ms: int) -> None:
    """It was not sent: not to be tried before `again_ms`."""
    await tx.execute(
        "UPDATE delayed_events SET claimed_until_ms = %(again)s WHERE delayed_nid = %(nid)s",
        again=again_ms,
        nid=delayed_nid,
    )


async def find_next_due(tx: Tx) -> int | None:
    """When the next one can be sent."""
    found: int | None = await tx.value(
        """
        SELECT min(greatest(due_ms, claimed_until_ms)) FROM (
            SELECT due_ms, claimed_until_ms FROM delayed_events WHERE finalised_ms IS NULL
            ORDER BY due_ms LIMIT 100) AS first
        """
    )
    return found


async def restart(tx: Tx, delay_id: str, now_ms: int) -> Delayed | None:
    """Begin the delay anew; None if it is not scheduled, or is being sent."""
    return await tx.row(
        Delayed,
        """
        UPDATE delayed_events SET since_ms = %(now)s, due_ms = %(now)s::bigint + delay_ms, attempts = 0
        WHERE delay_id = %(delay_id)s AND finalised_ms IS NULL AND claimed_until_ms <= %(now)s
        RETURNING delayed_nid, delay_id, user_nid, appservice_id, room_id, type, state_key, content, origin_server_ts,
                  since_position, attempts, due_ms, sticky_ms
        """,
        delay_id=delay_id,
        now=now_ms,
    )


async def cancel(tx: Tx, delay_id: str, now_ms: int) -> bool:
    """Whether it was scheduled, and nobody was sending it."""
    gone = await tx.execute(
        """
        UPDATE delayed_events SET finalised_ms = %(now)s, by_action = true
        WHERE delay_id = %(delay_id)s AND finalised_ms IS NULL AND claimed_until_ms <= %(now)s
        """,
        delay_id=delay_id,
        now=now_ms,
    )
    return bool(gone)


async def is_scheduled(tx: Tx, delay_id: str) -> bool:
    """Whether it is kept, and not finalised."""
    found = await tx.value(
        "SELECT 1 FROM delayed_events WHERE delay_id = %(delay_id)s AND finalised_ms IS NULL",
        delay_id=delay_id,
    )
    return found is not None


async def finalise(tx: Tx, delayed_nid: int, outcome: Outcome, now_ms: int) -> None:
    """Say what became of it."""
    await tx.execute(
        """
        UPDATE delayed_events
        SET finalised_ms = %(now)s, by_action = %(by_action)s, event_id = %(event_id)s, error = %(error)s
        WHERE delayed_nid = %(nid)s AND finalised_ms IS NULL
        """,
        nid=delayed_nid,
        now=now_ms,
        by_action=outcome.by_action,
        event_id=outcome.event_id,
        error=outcome.error,
    )


async def find_page(tx: Tx, user_nid: int, wanted: Wanted, page: Page, limit: int) -> list[Listed]:
    """At most `limit` of a user's events in the order of their due times."""
    return await tx.rows(
        Listed,
        """
        SELECT delayed_nid, due_ms, delay_id, room_id, type, state_key, delay_ms, since_ms, content, finalised_ms,
               by_action, event_id, error
        FROM delayed_events
        WHERE user_nid = %(user)s
              AND (%(status)s::text IS NULL OR (finalised_ms IS NULL) = (%(status)s = 'scheduled'))
              AND (%(ids)s::text[] IS NULL OR delay_id = ANY(%(ids)s))
              AND (%(room)s::text IS NULL OR room_id = %(room)s)
              AND (%(type)s::text IS NULL OR type = %(type)s)
              AND CASE WHEN %(backwards)s THEN (due_ms, delayed_nid) < (%(due)s, %(nid)s)
                       ELSE (due_ms, delayed_nid) > (%(due)s, %(nid)s) END
        ORDER BY CASE WHEN %(backwards)s THEN -due_ms ELSE due_ms END,
                 CASE WHEN %(backwards)s THEN -delayed_nid ELSE delayed_nid END
        LIMIT %(limit)s
        """,
        user=user_nid,
        status=wanted.status,
        ids=wanted.delay_ids,
        room=wanted.room_id,
        type=wanted.type,
        due=page.due_ms,
        nid=page.delayed_nid,
        backwards=page.backwards,
        limit=limit,
    )


async def delete_finalised(tx: Tx, before_ms: int) -> int:
    """Forget what was finalised before. Returns how many there were."""
    return await tx.execute("DELETE FROM delayed_events WHERE finalised_ms < %(before)s", before=before_ms)


async def delete_of_user(tx: Tx, user_nid: int) -> None:
    """Their account has ended."""
    await tx.execute("DELETE FROM delayed_events WHERE user_nid = %(user)s", user=user_nid)
