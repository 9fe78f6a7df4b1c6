"""SQL of push rules, and of counting what is unread: all rooms of a request in one query each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString, NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline, Tx

MIN_IN_ROOM: Final = 100
MAX_IN_ROOM: Final = 500
MAX_EVENTS: Final = 25_000
"""Events that are looked at: the newest after what was read, so many in a room, and in all rooms of a request together. A
count beyond is kept up as events come, but not made anew; clients show more than 99 as "99+"."""
MAX_LOOKED_AT: Final = 100
"""In a room, by rules that look into events."""


class Unread(NamedTuple):
    """Events that were not read and count alike."""

    room_nid: int
    thread: str
    """"main", or the root."""
    bits: int
    mentioned: bool
    events: int
    newest: Position


class UnreadEvent(NamedTuple):
    """One event that was not read."""

    event_nid: int
    room_nid: int
    thread: str
    bits: int
    mentioned: bool


class UnreadQuery(NamedTuple):
    """Whose unread events, and in which rooms after what."""

    user_nid: int
    ignored: Sequence[int]
    """user_nids."""
    upto: Position
    rooms: dict[int, Position]
    """room_nid -> read up to here, whatever the thread."""
    threads: dict[tuple[int, str], Position]
    """(room_nid, thread) -> read up to here."""
    ignored_until: Mapping[int, Position] = {}
    """user_nid -> up to where somebody was ignored who is not any more: what they said until then stays unheard."""
    changes: Sequence[Position] = ()
    """Where the rules were changed, in order: what came before and after is counted apart."""


async def find_rules(tx: Tx, user_nid: int) -> tuple[bytes | None, Position, list[str]]:
    """The rules as they are stored, if ever any were; where they were changed last (0: never); threads subscribed to."""
    row = await tx.one(
        """
        SELECT (SELECT rules FROM push_rules WHERE user_nid = %(user)s),
               (SELECT position FROM account_data
                WHERE user_nid = %(user)s AND room_nid = 0 AND type = 'm.push_rules'),
               ARRAY(SELECT thread FROM thread_subscriptions WHERE user_nid = %(user)s AND subscribed)
        """,
        user=user_nid,
    )
    assert row is not None
    return row[0], row[1] or 0, row[2]


async def find_rules_of(
    tx: Tx, user_nids: Sequence[int]
) -> list[tuple[int, bytes | None, Position, list[str]]]:
    """(user_nid, and as `find_rules`) of some users."""
    return await tx.all(
        """
        SELECT wanted.user_nid, r.rules, coalesce(a.position, 0),
               ARRAY(SELECT thread FROM thread_subscriptions t WHERE t.user_nid = wanted.user_nid AND t.subscribed)
        FROM unnest(%(users)s::bigint[]) AS wanted (user_nid) LEFT JOIN push_rules r USING (user_nid)
        LEFT JOIN account_data a ON a.user_nid = wanted.user_nid AND a.room_nid = 0 AND a.type = 'm.push_rules'
        """,
        users=list(user_nids),
    )


def find_read(
    batch: Pipeline, user_nid: int, room_nids: Sequence[int]
) -> Later[list[tuple[int, str, Position]]]:
    """(room_nid, thread, event_nid): the more advanced of the public and the private receipt. spec: EPH-04"""
    return batch.all(
        """
        SELECT room_nid, thread, max(event_nid) FROM receipts
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND user_nid = %(user)s GROUP BY room_nid, thread
        """,
        rooms=list(room_nids),
        user=user_nid,
    )


async def find_read_since(
    tx: Tx, user_nid: int, room_nids: Sequence[int], since: Position, upto: Position
) -> list[int]:
    """Rooms in which a receipt of the user came in (since, upto]."""
    return await tx.column(
        """
        SELECT DISTINCT room_nid FROM receipts
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND user_nid = %(user)s
              AND position > %(since)s AND position <= %(upto)s
        """,
        rooms=list(room_nids),
        user=user_nid,
        since=since,
        upto=upto,
    )


def find_joins(batch: Pipeline, user_nid: int, room_nids: Sequence[int]) -> Later[list[tuple[int, Position]]]:
    """(room_nid, when the user came for the last time; changes of name while there aside)."""
    return batch.all(
        """
        SELECT room_nid, min(event_nid) FROM (
            SELECT room_nid, event_nid, membership, max(event_nid) FILTER (WHERE membership <> 1) OVER rooms AS away
            FROM memberships WHERE user_nid = %(user)s AND room_nid = ANY(%(rooms)s::bigint[])
            WINDOW rooms AS (PARTITION BY room_nid)
        ) own
        WHERE membership = 1 AND event_nid > coalesce(away, 0) GROUP BY room_nid
        """,
        user=user_nid,
        rooms=list(room_nids),
    )


# One's own events say that one has read what came before them in their thread, as a receipt does; but a change of one's
# name (facts & 256) does not. `flags`: what is hidden from clients.
_UNREAD: Final[LiteralString] = """
    WITH recent AS MATERIALIZED (
        SELECT query.reader, query.room, coalesce(e.thread, 'main') AS thread, e.event_nid, e.sender_nid, e.facts,
               e.redacted_by, coalesce(query.reader = ANY(e.mentions), false) AS mentioned
        FROM unnest(%(readers)s::bigint[], %(rooms)s::bigint[], %(after)s::bigint[]) AS query (reader, room, after),
             LATERAL (SELECT event_nid, sender_nid, facts, thread, mentions, redacted_by FROM events
                      WHERE room_nid = query.room AND event_nid > query.after AND event_nid <= %(upto)s AND flags = 0
                      ORDER BY event_nid DESC LIMIT %(limit)s) e
    ), read AS (
        SELECT reader, room, thread, max(upto) AS upto FROM (
            SELECT reader, room, thread, max(event_nid) AS upto FROM recent
            WHERE sender_nid = reader AND facts & 256 = 0 GROUP BY reader, room, thread
            UNION ALL
            SELECT * FROM unnest(%(thread_readers)s::bigint[], %(thread_rooms)s::bigint[], %(threads)s::text[],
                                 %(thread_upto)s::bigint[])
        ) own (reader, room, thread, upto) GROUP BY reader, room, thread
    ), unread AS (
        SELECT recent.* FROM recent LEFT JOIN read USING (reader, room, thread)
        WHERE event_nid > coalesce(read.upto, 0) AND sender_nid <> reader AND redacted_by IS NULL
              AND sender_nid <> ALL(%(ignored)s::bigint[])
              AND NOT EXISTS (
                  SELECT 1 FROM unnest(%(unheard)s::bigint[], %(until)s::bigint[]) AS was (sender, until)
                  WHERE sender = sender_nid AND event_nid <= until)
    )
"""


async def count_unread(tx: Tx, query: UnreadQuery) -> list[Unread]:
    """What is unread, by what decides how it counts; `newest` is of the time between two changes of the rules."""
    return await tx.rows(
        Unread,
        _UNREAD  # noqa: S608  # two literals
        + """
    SELECT room, thread, facts, mentioned, count(*), max(event_nid) FROM unread
    GROUP BY room, thread, facts, mentioned, width_bucket(event_nid, %(changes)s::bigint[])
        """,
        changes=list(query.changes),
        **_values(query, max(MIN_IN_ROOM, min(MAX_IN_ROOM, MAX_EVENTS // len(query.rooms)))),
    )


class Pair(NamedTuple):
    """A reader and a room they are in, when several are counted together."""

    user_nid: int
    room_nid: int


def find_read_of(batch: Pipeline, pairs: Sequence[Pair]) -> Later[list[tuple[int, int, str, Position]]]:
    """(user_nid, room_nid, thread, event_nid): as `find_read`, of several."""
    return batch.all(
        """
        SELECT r.user_nid, r.room_nid, thread, max(event_nid)
        FROM unnest(%(users)s::bigint[], %(rooms)s::bigint[]) AS pair (user_nid, room_nid)
             JOIN receipts r USING (user_nid, room_nid)
        GROUP BY r.user_nid, r.room_nid, thread
        """,
        **_columns(pairs),
    )


def find_joins_of(batch: Pipeline, pairs: Sequence[Pair]) -> Later[list[tuple[int, int, Position]]]:
    """(user_nid, room_nid, when they came for the last time): as `find_joins`, of several."""
    return batch.all(
        """
        SELECT user_nid, room_nid, min(event_nid) FROM (
            SELECT pair.user_nid, pair.room_nid, m.event_nid, m.membership,
                   max(m.event_nid) FILTER (WHERE m.membership <> 1) OVER pairs AS away
            FROM unnest(%(users)s::bigint[], %(rooms)s::bigint[]) AS pair (user_nid, room_nid),
                 LATERAL (SELECT event_nid, membership FROM memberships
                          WHERE user_nid = pair.user_nid AND room_nid = pair.room_nid) m
            WINDOW pairs AS (PARTITION BY pair.user_nid, pair.room_nid)
        ) own
        WHERE membership = 1 AND event_nid > coalesce(away, 0) GROUP BY user_nid, room_nid
        """,
        **_columns(pairs),
    )


async def count_unread_of(
    tx: Tx, after: Mapping[Pair, Position], threads: Mapping[tuple[int, int, str], Position], upto: Position
) -> list[tuple[int, Unread]]:
    """(user_nid, what they have not read): as `count_unread`, of several who ignore nobody. `after`: read up to here, whatever
    the thread; `threads`: (user_nid, room_nid, thread) -> read up to here. At most `MAX_IN_ROOM` events of each pair.
    """
    rows = await tx.all(
        _UNREAD  # noqa: S608  # two literals
        + """
    SELECT reader, room, thread, facts, mentioned, count(*), max(event_nid) FROM unread
    GROUP BY reader, room, thread, facts, mentioned
        """,
        readers=[pair.user_nid for pair in after],
        rooms=[pair.room_nid for pair in after],
        after=list(after.values()),
        thread_readers=[user for user, _, _ in threads],
        thread_rooms=[room for _, room, _ in threads],
        threads=[thread for _, _, thread in threads],
        thread_upto=list(threads.values()),
        ignored=[],
        unheard=[],
        until=[],
        upto=upto,
        limit=MAX_IN_ROOM,
    )
    return [(row[0], Unread._make(row[1:])) for row in rows]


class Range(NamedTuple):
    """Events of a room that somebody who asks along with others may lack: in (after, upto]."""

    number: int
    """Whose question it is of."""
    pair: Pair
    after: Position
    upto: Position


async def find_newest_of(
    tx: Tx, ranges: Sequence[Range], ignoring: Sequence[tuple[int, int]], limit: int
) -> list[tuple[int, int, int, str]]:
    """(number, event_nid, room_nid, thread) of others' events, read or not: as `find_before`, of several, at most `limit` of each
    number. `ignoring`: (user_nid, whom they ignore).
    """
    return await tx.all(
        """
        SELECT number, event_nid, room, thread FROM (
            SELECT query.number, query.room, e.event_nid, coalesce(e.thread, 'main') AS thread,
                   row_number() OVER (PARTITION BY query.number ORDER BY e.event_nid DESC) AS place
            FROM unnest(%(numbers)s::int[], %(users)s::bigint[], %(rooms)s::bigint[], %(after)s::bigint[],
                        %(upto)s::bigint[]) AS query (number, reader, room, after, upto),
                 LATERAL (SELECT event_nid, thread FROM events
                          WHERE room_nid = query.room AND event_nid > query.after AND event_nid <= query.upto
                                AND flags = 0 AND redacted_by IS NULL AND sender_nid <> query.reader
                                AND NOT EXISTS (
                                    SELECT 1 FROM unnest(%(who)s::bigint[], %(whom)s::bigint[]) AS ignores (who, whom)
                                    WHERE who = query.reader AND whom = sender_nid)
                          ORDER BY event_nid DESC LIMIT %(limit)s) e
        ) found WHERE place <= %(limit)s
        """,
        numbers=[each.number for each in ranges],
        **_columns([each.pair for each in ranges]),
        after=[each.after for each in ranges],
        upto=[each.upto for each in ranges],
        who=[who for who, _ in ignoring],
        whom=[whom for _, whom in ignoring],
        limit=limit,
    )


def _columns(pairs: Sequence[Pair]) -> dict[str, object]:
    return {"users": [pair.user_nid for pair in pairs], "rooms": [pair.room_nid for pair in pairs]}


async def find_unread(tx: Tx, query: UnreadQuery) -> list[UnreadEvent]:
    """What is unread, event by event, the newest first."""
    return await tx.rows(
        UnreadEvent,
        _UNREAD  # noqa: S608  # two literals
        + "SELECT event_nid, room, thread, facts, mentioned FROM unread ORDER BY event_nid DESC",
        **_values(query, MAX_LOOKED_AT),
    )


async def find_before(tx: Tx, query: UnreadQuery, before: Position, limit: int) -> list[UnreadEvent]:
    """Events of others in these rooms, read or not, the newest first."""
    return await tx.rows(
        UnreadEvent,
        """
        SELECT e.event_nid, query.room, coalesce(e.thread, 'main'), e.facts,
               coalesce(%(user)s = ANY(e.mentions), false)
        FROM unnest(%(rooms)s::bigint[], %(after)s::bigint[]) AS query (room, after),
             LATERAL (SELECT event_nid, facts, thread, mentions FROM events
                      WHERE room_nid = query.room AND event_nid > query.after AND event_nid < %(before)s AND flags = 0
                            AND redacted_by IS NULL AND sender_nid <> %(user)s
                            AND sender_nid <> ALL(%(ignored)s::bigint[])
                            AND NOT EXISTS (
                                SELECT 1 FROM unnest(%(unheard)s::bigint[], %(until)s::bigint[]) AS was (sender, until)
                                WHERE sender = sender_nid AND event_nid <= until)
                      ORDER BY event_nid DESC LIMIT %(limit)s) e
        ORDER BY e.event_nid DESC LIMIT %(limit)s
        """,
        user=query.user_nid,
        ignored=list(query.ignored),
        unheard=list(query.ignored_until),
        until=list(query.ignored_until.values()),
        rooms=list(query.rooms),
        after=list(query.rooms.values()),
        before=before,
        limit=limit,
    )


def _values(query: UnreadQuery, limit: int) -> dict[str, object]:
    return {
        "limit": limit,
        "readers": [query.user_nid] * len(query.rooms),
        "ignored": list(query.ignored),
        "unheard": list(query.ignored_until),
        "until": list(query.ignored_until.values()),
        "upto": query.upto,
        "rooms": list(query.rooms),
        "after": list(query.rooms.values()),
        "thread_readers": [query.user_nid] * len(query.threads),
        "thread_rooms": [room for room, _ in query.threads],
        "threads": [thread for _, thread in query.threads],
        "thread_upto": list(query.threads.values()),
    }
