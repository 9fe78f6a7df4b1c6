"""SQL of the search index: who may search where, and what keeps it. What is found in it: `matches_store`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.storage.tx import Tx

MAX_EDITS = 50
"""Newest edits of an event that are looked at for one that is valid."""
_LOCK = 0x617472_736561
"""Of who writes the index."""


class Entry(NamedTuple):
    """A row of the index."""

    event_nid: int
    room_nid: int
    sender_nid: int
    edit_nid: int
    """The newest edit; 0: there is none."""
    kind: int
    words: str


class Rebuild(NamedTuple):
    """How far the last rebuild is."""

    version: int
    first: Position
    done: Position
    last: Position
    seconds: float
    """Since it began, or that it took."""
    ended: bool


# ----------------------------------------------------------------------------------------------------------- searching


async def find_departures(tx: Tx, user_nid: int, room_nids: Sequence[int]) -> list[tuple[int, Position]]:
    """(room_nid, the event with which the user's last stay ended) of rooms that they were in."""
    return await tx.all(
        """
        SELECT j.room_nid, min(m.event_nid)
        FROM (SELECT room_nid, max(event_nid) AS joined FROM memberships
              WHERE user_nid = %(user)s AND room_nid = ANY(%(rooms)s::bigint[]) AND membership = 1
              GROUP BY room_nid) j
        JOIN memberships m ON m.user_nid = %(user)s AND m.room_nid = j.room_nid AND m.event_nid > j.joined
        GROUP BY j.room_nid
        """,
        user=user_nid,
        rooms=list(room_nids),
    )


async def find_encrypted(tx: Tx, room_nids: Collection[int], key_nids: Collection[int]) -> set[int]:
    """Those of some rooms whose current state has one of the keys."""
    return set(
        await tx.column(
            """
            SELECT room_nid FROM current_state
            WHERE room_nid = ANY(%(rooms)s::bigint[]) AND key_nid = ANY(%(keys)s::int[])
            """,
            rooms=list(room_nids),
            keys=list(key_nids),
        )
    )


async def find_state(tx: Tx, room_nids: Collection[int], key_nids: Collection[int]) -> list[int]:
    """Events that stand at one of the keys in the current state of some rooms."""
    return await tx.column(
        """
        SELECT event_nid FROM current_state
        WHERE room_nid = ANY(%(rooms)s::bigint[]) AND key_nid = ANY(%(keys)s::int[])
        """,
        rooms=list(room_nids),
        keys=list(key_nids),
    )


class Around(NamedTuple):
    """An event near another one."""

    event_nid: int
    near_nid: int


async def find_around(tx: Tx, targets: Sequence[tuple[int, int]], before: int, after: int) -> list[Around]:
    """Events just before and after some (room_nid, event_nid), oldest first."""
    return await tx.rows(
        Around,
        """
        SELECT t.nid, e.event_nid
        FROM unnest(%(rooms)s::bigint[], %(nids)s::bigint[]) AS t (room, nid), LATERAL (
            (SELECT event_nid FROM events WHERE room_nid = t.room AND event_nid < t.nid AND flags = 0
             ORDER BY event_nid DESC LIMIT %(before)s)
            UNION ALL
            (SELECT event_nid FROM events WHERE room_nid = t.room AND event_nid > t.nid AND flags = 0
             ORDER BY event_nid LIMIT %(after)s)) e
        ORDER BY e.event_nid
        """,
        rooms=[room for room, _ in targets],
        nids=[nid for _, nid in targets],
        before=before,
        after=after,
    )


# ------------------------------------------------------------------------------------------------------------- keeping


async def lock(tx: Tx) -> None:
    """Until the transaction ends nobody else writes the index from what they have read."""
    await tx.value("SELECT pg_advisory_xact_lock(%(key)s)", key=_LOCK)


async def find_edited(tx: Tx, event_ids: Sequence[str]) -> set[str]:
    """Those of some events that others say to replace; of most pages, none."""
    return set(
        await tx.column(
            """
            SELECT DISTINCT parent_id FROM relations
            WHERE parent_id = ANY(%(ids)s::text[]) AND rel_type = 'm.replace'
            """,
            ids=list(event_ids),
        )
    )


class Original(NamedTuple):
    """An event that may have been edited."""

    event_id: str
    room_nid: int
    sender_nid: int


async def find_edits(tx: Tx, originals: Sequence[Original]) -> list[tuple[str, int]]:
    """(event id, event_nid of an edit by its own sender, of its type), the newest first. spec: #event-replacements (REL-04)"""
    return await tx.all(
        """
        SELECT p.id, e.event_nid
        FROM unnest(%(ids)s::text[], %(rooms)s::bigint[], %(senders)s::bigint[]) AS p (id, room, sender), LATERAL (
            SELECT event_nid, c.origin_server_ts, c.event_id
            FROM relations r JOIN events c USING (event_nid)
            WHERE r.parent_id = p.id AND r.rel_type = 'm.replace' AND r.room_nid = p.room
                  AND r.sender_nid = p.sender AND r.type = 'm.room.message' AND c.redacted_by IS NULL
            ORDER BY c.origin_server_ts DESC, c.event_id COLLATE "C" DESC LIMIT %(limit)s) e
        ORDER BY p.id, e.origin_server_ts DESC, e.event_id COLLATE "C" DESC
        """,
        ids=[each.event_id for each in originals],
        rooms=[each.room_nid for each in originals],
        senders=[each.sender_nid for each in originals],
        limit=MAX_EDITS,
    )


async def find_numbers(tx: Tx, event_ids: Sequence[str]) -> list[int]:
    """Numbers of events."""
    return await tx.column(
        "SELECT event_nid FROM events WHERE event_id = ANY(%(ids)s::text[]) AND moved_to IS NULL",
        ids=list(event_ids),
    )


async def find_edited_by(tx: Tx, edit_nids: Sequence[int]) -> list[int]:
    """Entries that have the words of one of these edits."""
    return await tx.column(
        "SELECT event_nid FROM search_entries WHERE edit_nid = ANY(%(nids)s::bigint[])", nids=list(edit_nids)
    )


async def write_entries(tx: Tx, entries: Sequence[Entry]) -> None:
    """Insert or replace; what is redacted or deleted by now is passed over, and what is the same is left alone."""
    await tx.execute(
        """
        INSERT INTO search_entries AS old (event_nid, room_nid, sender_nid, edit_nid, kind, words)
        SELECT row.nid, row.room, row.sender, nullif(row.edit, 0), row.kind, row.words::tsvector
        FROM unnest(%(nids)s::bigint[], %(rooms)s::bigint[], %(senders)s::bigint[], %(edits)s::bigint[],
                    %(kinds)s::smallint[], %(words)s::text[]) AS row (nid, room, sender, edit, kind, words)
             JOIN events e ON e.event_nid = row.nid AND e.redacted_by IS NULL
        ON CONFLICT (event_nid) DO UPDATE
            SET edit_nid = excluded.edit_nid, kind = excluded.kind, words = excluded.words
            WHERE (old.edit_nid, old.kind, old.words) IS DISTINCT FROM (excluded.edit_nid, excluded.kind, excluded.words)
        """,
        nids=[entry.event_nid for entry in entries],
        rooms=[entry.room_nid for entry in entries],
        senders=[entry.sender_nid for entry in entries],
        edits=[entry.edit_nid for entry in entries],
        kinds=[entry.kind for entry in entries],
        words=[entry.words for entry in entries],
    )


async def delete_entries(tx: Tx, event_nids: Sequence[int]) -> None:
    await tx.execute(
        "DELETE FROM search_entries WHERE event_nid = ANY(%(nids)s::bigint[])", nids=list(event_nids)
    )


async def delete_room(tx: Tx, room_mark: str, room_nid: int, limit: int) -> int:
    """At most so many entries of a room. Returns how many."""
    return await tx.execute(
        """
        DELETE FROM search_entries WHERE event_nid IN (
            SELECT event_nid FROM search_entries
            WHERE words @@ %(mark)s::tsquery AND room_nid = %(room)s LIMIT %(limit)s)
        """,
        mark=room_mark,
        room=room_nid,
        limit=limit,
    )


async def take_late(tx: Tx, most_bytes: int, limit: int) -> list[int]:
    """Events that no reader of the log was told of, of at most so many bytes together, or one; they are taken off the list."""
    return await tx.column(
        """
        DELETE FROM search_late WHERE event_nid IN (
            SELECT event_nid FROM (
                SELECT l.event_nid, sum(coalesce(octet_length(e.pdu), 0)) OVER w AS size, row_number() OVER w AS place
                FROM (SELECT event_nid FROM search_late ORDER BY event_nid LIMIT %(limit)s) l
                     LEFT JOIN events e USING (event_nid)
                WINDOW w AS (ORDER BY l.event_nid)) sized
            WHERE size <= %(bytes)s OR place = 1)
        RETURNING event_nid
        """,
        bytes=most_bytes,
        limit=limit,
    )


# ---------------------------------------------------------------------------------------------------------- rebuilding


async def begin_rebuild(tx: Tx, version: int) -> None:
    """Go through everything from the beginning."""
    await tx.execute(
        """
        INSERT INTO search_rebuild AS r (version, first_nid, done_nid, last_nid)
        SELECT %(version)s, first, first, greatest(first, (SELECT position FROM log_head))
        FROM (SELECT coalesce(min(event_nid), 1) - 1 AS first FROM events) e
        ON CONFLICT (one) DO UPDATE SET version = excluded.version, first_nid = excluded.first_nid,
            done_nid = excluded.done_nid, last_nid = excluded.last_nid, started = clock_timestamp(), ended = NULL
        """,
        version=version,
    )


async def read_rebuild(tx: Tx) -> Rebuild | None:
    """None: there has been none."""
    return await tx.row(
        Rebuild,
        """
        SELECT version, first_nid, done_nid, last_nid,
               extract(epoch FROM coalesce(ended, clock_timestamp()) - started)::float8, ended IS NOT NULL
        FROM search_rebuild
        """,
    )


async def find_range(
    tx: Tx, after: Position, upto: Position, most_bytes: int, limit: int
) -> list[tuple[int, bool]]:
    """(event_nid, whether it is shown) of the oldest events in (after, upto], of at most so many bytes together, or one."""
    return await tx.all(
        """
        SELECT event_nid, shown FROM (
            SELECT event_nid, flags = 0 AS shown, sum(octet_length(pdu)) OVER w AS size, row_number() OVER w AS place
            FROM (SELECT event_nid, flags, pdu FROM events
                  WHERE event_nid > %(after)s AND event_nid <= %(upto)s ORDER BY event_nid LIMIT %(limit)s) part
            WINDOW w AS (ORDER BY event_nid)) sized
        WHERE size <= %(bytes)s OR place = 1 ORDER BY event_nid
        """,
        after=after,
        upto=upto,
        bytes=most_bytes,
        limit=limit,
    )


async def delete_others(tx: Tx, after: Position, upto: Position, kept: Sequence[int]) -> None:
    """Entries in (after, upto] but for these."""
    await tx.execute(
        """
        DELETE FROM search_entries
        WHERE event_nid > %(after)s AND event_nid <= %(upto)s AND NOT event_nid = ANY(%(kept)s::bigint[])
        """,
        after=after,
        upto=upto,
        kept=list(kept),
    )


async def move_rebuild(tx: Tx, before: Position, done: Position) -> bool:
    """Everything up to `done` is in the index, as everything up to `before` was. False: it began anew meanwhile."""
    moved = await tx.execute(
        """
        UPDATE search_rebuild
        SET done_nid = %(done)s, ended = CASE WHEN %(done)s >= last_nid THEN clock_timestamp() END
        WHERE done_nid = %(before)s AND ended IS NULL
        """,
        before=before,
        done=done,
    )
    return moved == 1


async def has_entry(tx: Tx, event_nid: int) -> bool:
    """Whether an event can be found."""
    found = await tx.value(
        "SELECT EXISTS (SELECT 1 FROM search_entries WHERE event_nid = %(event)s)", event=event_nid
    )
    return bool(found)


async def count_entries(tx: Tx) -> tuple[int, int]:
    """How many entries there are, about, and the bytes that they and their indexes take."""
    row = await tx.one(
        """
        SELECT greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) FROM pg_class
        WHERE oid = 'search_entries'::regclass
        """
    )
    return (0, 0) if row is None else (row[0], row[1])
