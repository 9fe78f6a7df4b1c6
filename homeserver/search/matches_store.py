"""SQL of what a search finds: the newest entries one by one, and what the index of words knows of a part of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Later, Pipeline, Tx


class Match(NamedTuple):
    """What a search found in the index."""

    event_nid: int
    room_nid: int
    sender_nid: int
    edit_nid: int
    rank: float


class Wanted(NamedTuple):
    """What is looked for, and where."""

    query: str
    """The words as they have to stand: a `tsquery`, as all queries are."""
    kinds: Sequence[int]
    rooms: Sequence[int]
    senders: Sequence[int] | None
    not_senders: Sequence[int]


class Known(NamedTuple):
    """Queries whose matches are counted in passing."""

    apart: str | None
    """All words, wherever they stand."""
    whole: str | None
    """Those of them that are whole words; None: all entries match."""
    begun: str | None
    """Any word that begins as one of those that may be beginnings; None: no entry matches."""
    in_rooms: bool
    """Whether the first two are counted in the rooms that are looked in alone."""


class Part(NamedTuple):
    """Of the log: [since, before), and how many entries are read of it at most."""

    since: Position
    before: Position
    limit: int


class Looked(NamedTuple):
    """What one look found."""

    matches: list[Match]
    """In no order."""
    read: int
    """Entries that were read, wanted or not."""


class Scanned(NamedTuple):
    """What was found in the newest entries."""

    matches: list[Match]
    """In no order."""
    read: int
    """Entries."""
    oldest: Position
    """Of them; 0 where there are none."""
    apart: int
    whole: int
    begun: int
    """How many match what is `Known`."""


def prepare(batch: Pipeline, milliseconds: int) -> None:
    """In this transaction: statements take so long at most, the index of words is the way to the rows where it can be, and
    each statement is planned for what it asks: the plan for whatever is asked looks for a room in a list of a thousand one by one.
    """
    batch.execute(
        """
        SELECT set_config('statement_timeout', %(ms)s, true), set_config('enable_seqscan', 'off', true),
               set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true)
        """,
        ms=str(milliseconds),
    )


def find_first(batch: Pipeline) -> Later[tuple[Any, ...] | None]:
    """(the oldest entry,), or (None,)."""
    return batch.one("SELECT min(event_nid) FROM search_entries")


async def scan(tx: Tx, wanted: Wanted, known: Known | None, part: Part) -> Scanned:
    """The newest entries of a part of the log, one by one."""
    row = await tx.one(
        # CASE: first what is cheap to compare. `ts_match_vq` is `@@` that no index answers.
        """
        SELECT count(*), coalesce(min(event_nid), 0),
               count(*) FILTER (WHERE counted AND ts_match_vq(words, %(apart)s::tsquery)),
               count(*) FILTER (WHERE counted AND coalesce(ts_match_vq(words, %(whole)s::tsquery), true)),
               count(*) FILTER (WHERE ts_match_vq(words, %(begun)s::tsquery)),
               array_agg(event_nid) FILTER (WHERE ok), array_agg(room_nid) FILTER (WHERE ok),
               array_agg(sender_nid) FILTER (WHERE ok), array_agg(coalesce(edit_nid, 0)) FILTER (WHERE ok),
               array_agg((1e6 * ts_rank(words, %(query)s::tsquery))::bigint) FILTER (WHERE ok)
        FROM (
            SELECT event_nid, room_nid, sender_nid, edit_nid, words,
                   %(any_room)s OR room_nid = ANY(%(rooms)s::bigint[]) AS counted,
                   CASE WHEN kind = ANY(%(kinds)s::smallint[]) AND room_nid = ANY(%(rooms)s::bigint[])
                             AND (%(anybody)s OR sender_nid = ANY(%(senders)s::bigint[]))
                             AND NOT sender_nid = ANY(%(not_senders)s::bigint[])
                        THEN ts_match_vq(words, %(query)s::tsquery) ELSE false END AS ok
            FROM search_entries WHERE event_nid >= %(since)s AND event_nid < %(before)s
            ORDER BY event_nid DESC LIMIT %(limit)s) newest
        """,
        apart=known.apart if known else None,
        whole=known.whole if known else None,
        begun=known.begun if known else None,
        any_room=known is not None and not known.in_rooms,
        since=part.since,
        before=part.before,
        limit=part.limit,
        **_values(wanted),
    )
    assert row is not None
    read, oldest, apart, whole, begun = row[:5]
    return Scanned(_matches(row[5:]), read, oldest, apart, whole, begun)


async def find_matches(tx: Tx, wanted: Wanted, index_query: str, part: Part) -> Looked:
    """Wanted entries of a part of the log, among the first that the index finds with its query."""
    row = await tx.one(
        # `+ 0`: these bounds are no way to the rows, whatever the planner takes them for.
        """
        SELECT count(*), array_agg(event_nid) FILTER (WHERE ok), array_agg(room_nid) FILTER (WHERE ok),
               array_agg(sender_nid) FILTER (WHERE ok), array_agg(coalesce(edit_nid, 0)) FILTER (WHERE ok),
               array_agg((1e6 * ts_rank(words, %(query)s::tsquery))::bigint) FILTER (WHERE ok)
        FROM (
            SELECT event_nid, room_nid, sender_nid, edit_nid, words,
                   CASE WHEN kind = ANY(%(kinds)s::smallint[]) AND room_nid = ANY(%(rooms)s::bigint[])
                             AND (%(anybody)s OR sender_nid = ANY(%(senders)s::bigint[]))
                             AND NOT sender_nid = ANY(%(not_senders)s::bigint[])
                        THEN ts_match_vq(words, %(query)s::tsquery) ELSE false END AS ok
            FROM search_entries
            WHERE words @@ %(index_query)s::tsquery AND event_nid + 0 >= %(since)s AND event_nid + 0 < %(before)s
            LIMIT %(limit)s) looked
        """,
        index_query=index_query,
        since=part.since,
        before=part.before,
        limit=part.limit,
        **_values(wanted),
    )
    assert row is not None
    return Looked(_matches(row[1:]), row[0])


def _values(wanted: Wanted) -> dict[str, Any]:
    return {
        "query": wanted.query,
        "kinds": list(wanted.kinds),
        "rooms": list(wanted.rooms),
        "anybody": wanted.senders is None,
        "senders": list(wanted.senders or ()),
        "not_senders": list(wanted.not_senders),
    }


def _matches(columns: Sequence[Any]) -> list[Match]:
    if columns[0] is None:
        return []
    return [
        Match(nid, room, sender, edit, rank / 1e6)
        for nid, room, sender, edit, rank in zip(*columns, strict=True)
    ]
