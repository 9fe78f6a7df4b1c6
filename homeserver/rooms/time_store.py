"""SQL of events in the order of the time they say they were sent at.

Messages have an index of that. State events are few beside them and are looked for in the log, around the messages of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Tx

MAX_SKIPPED = 100_000
"""Events passed over, in the index alone, to find those of some stays."""


MAX_STATE = 5_000
"""State events looked at between two messages."""


class Moment(NamedTuple):
    """A place in the order of time."""

    ts: int
    """`origin_server_ts`, ms."""
    event_nid: int


class TimeSearch(NamedTuple):
    """In which room, which way."""

    room_nid: int
    backwards: bool
    upto: Position
    """Events after it are not looked at."""


class Stay(NamedTuple):
    """From a join to what ended it."""

    first: Position
    last: Position


async def find_messages(tx: Tx, search: TimeSearch, after: Moment, limit: int) -> list[Moment]:
    """Messages after a moment, or before it where the search goes backwards, the closest first."""
    values: dict[str, Any] = {**search._asdict(), **after._asdict(), "limit": limit}
    backwards = values.pop("backwards")
    return await tx.rows(Moment, BACKWARDS if backwards else FORWARDS, **values)


async def find_messages_within(
    tx: Tx, search: TimeSearch, after: Moment, stays: Sequence[Stay], limit: int
) -> list[Moment]:
    """The same, of messages within some stays alone; of the next `MAX_SKIPPED`."""
    values: dict[str, Any] = {**search._asdict(), **after._asdict(), "limit": limit, "skipped": MAX_SKIPPED}
    values["firsts"], values["lasts"] = [stay.first for stay in stays], [stay.last for stay in stays]
    backwards = values.pop("backwards")
    return await tx.rows(Moment, WITHIN_BACKWARDS if backwards else WITHIN_FORWARDS, **values)


async def find_state(tx: Tx, search: TimeSearch, between: Stay) -> list[Moment]:
    """State events between two places in the log, the `MAX_STATE` closest in the direction of the search."""
    values = {"room_nid": search.room_nid, "first": between.first, "last": min(between.last, search.upto)}
    return await tx.rows(
        Moment, STATE_BACKWARDS if search.backwards else STATE_FORWARDS, limit=MAX_STATE, **values
    )


async def find_moments(tx: Tx, event_nids: Sequence[int]) -> list[Moment]:
    """When some events were sent."""
    return await tx.rows(
        Moment,
        "SELECT origin_server_ts, event_nid FROM events WHERE event_nid = ANY(%(nids)s::bigint[])",
        nids=list(event_nids),
    )


async def list_memberships(tx: Tx, user_nid: int, room_nid: int) -> list[tuple[Position, int]]:
    """(event_nid, membership) of a local user in a room, in order."""
    return await tx.all(
        """
        SELECT event_nid, membership FROM memberships WHERE user_nid = %(user)s AND room_nid = %(room)s
        ORDER BY event_nid
        """,
        user=user_nid,
        room=room_nid,
    )


FORWARDS: LiteralString = """
    SELECT origin_server_ts, event_nid FROM events
    WHERE room_nid = %(room_nid)s AND key_nid IS NULL AND event_nid <= %(upto)s
      AND (origin_server_ts, event_nid) > (%(ts)s, %(event_nid)s)
    ORDER BY origin_server_ts, event_nid LIMIT %(limit)s
"""
BACKWARDS: LiteralString = """
    SELECT origin_server_ts, event_nid FROM events
    WHERE room_nid = %(room_nid)s AND key_nid IS NULL AND event_nid <= %(upto)s
      AND (origin_server_ts, event_nid) < (%(ts)s, %(event_nid)s)
    ORDER BY origin_server_ts DESC, event_nid DESC LIMIT %(limit)s
"""
WITHIN_FORWARDS: LiteralString = """
    SELECT origin_server_ts, event_nid FROM (
        SELECT origin_server_ts, event_nid FROM events
        WHERE room_nid = %(room_nid)s AND key_nid IS NULL AND event_nid <= %(upto)s
          AND (origin_server_ts, event_nid) > (%(ts)s, %(event_nid)s)
        ORDER BY origin_server_ts, event_nid LIMIT %(skipped)s) passed
    WHERE EXISTS (SELECT 1 FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS stay (first, last)
                  WHERE event_nid BETWEEN stay.first AND stay.last)
    ORDER BY origin_server_ts, event_nid LIMIT %(limit)s
"""
WITHIN_BACKWARDS: LiteralString = """
    SELECT origin_server_ts, event_nid FROM (
        SELECT origin_server_ts, event_nid FROM events
        WHERE room_nid = %(room_nid)s AND key_nid IS NULL AND event_nid <= %(upto)s
          AND (origin_server_ts, event_nid) < (%(ts)s, %(event_nid)s)
        ORDER BY origin_server_ts DESC, event_nid DESC LIMIT %(skipped)s) passed
    WHERE EXISTS (SELECT 1 FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS stay (first, last)
                  WHERE event_nid BETWEEN stay.first AND stay.last)
    ORDER BY origin_server_ts DESC, event_nid DESC LIMIT %(limit)s
"""
STATE_FORWARDS: LiteralString = """
    SELECT origin_server_ts, event_nid FROM events
    WHERE room_nid = %(room_nid)s AND key_nid IS NOT NULL AND event_nid BETWEEN %(first)s AND %(last)s
    ORDER BY event_nid LIMIT %(limit)s
"""
STATE_BACKWARDS: LiteralString = """
    SELECT origin_server_ts, event_nid FROM events
    WHERE room_nid = %(room_nid)s AND key_nid IS NOT NULL AND event_nid BETWEEN %(first)s AND %(last)s
    ORDER BY event_nid DESC LIMIT %(limit)s
"""
