"""SQL of bundled aggregations: each statement for all parents of a page."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.storage.tx import Later, Pipeline, Tx

BUNDLED = ("m.thread", "m.replace", "m.reference")
"""Relations that are told with their parent."""
MAX_REFERENCES = 100
MAX_EDITS = 50
"""Newest edits of an event that are looked at for one that is valid and may be seen."""
MAX_CHILDREN = 1_000
"""Replies in a thread, of those that the reader may not see, that are looked at one by one."""


class Parent(NamedTuple):
    """An event that others may relate to."""

    event_id: str
    room_nid: int
    sender_nid: int
    type: str
    unsure_upto: int
    """Children up to here may be hidden from the reader."""


class ThreadRow(NamedTuple):
    """A thread in short, ignored users left out."""

    root_id: str
    count_: int
    latest_nid: int
    participated: bool
    unsure: int
    """How many of them may be hidden from the reader."""


class ReferenceRow(NamedTuple):
    """An event that refers to another."""

    parent_id: str
    event_nid: int
    event_id: str


async def find_related(tx: Tx, event_ids: Collection[str]) -> set[str]:
    """Which of these events others relate to in a way that is bundled; for most of them the answer is no."""
    return set(
        await tx.column(
            """
            SELECT parent.id FROM unnest(%(ids)s::text[]) AS parent (id)
            WHERE EXISTS (SELECT 1 FROM relations WHERE parent_id = parent.id AND rel_type = ANY(%(kinds)s::text[]))
            """,
            ids=list(event_ids),
            kinds=BUNDLED,
        )
    )


def find_threads(
    batch: Pipeline, parents: Sequence[Parent], reader_nid: int, ignored: Sequence[int]
) -> Later[list[ThreadRow]]:
    """Threads that begin at these events."""
    return batch.rows(
        ThreadRow,
        """
        SELECT r.parent_id, count(*), max(r.event_nid), bool_or(r.sender_nid = %(reader)s),
               count(*) FILTER (WHERE r.event_nid <= p.unsure)
        FROM unnest(%(ids)s::text[], %(rooms)s::bigint[], %(unsure)s::bigint[]) AS p (id, room, unsure)
             JOIN relations r ON r.parent_id = p.id AND r.rel_type = 'm.thread' AND r.room_nid = p.room
        WHERE NOT r.sender_nid = ANY(%(ignored)s::bigint[])
        GROUP BY r.parent_id
        """,
        ids=[parent.event_id for parent in parents],
        rooms=[parent.room_nid for parent in parents],
        unsure=[parent.unsure_upto for parent in parents],
        reader=reader_nid,
        ignored=list(ignored),
    )


async def find_replies(tx: Tx, parents: Sequence[Parent], ignored: Sequence[int]) -> list[tuple[str, int]]:
    """(root, event_nid) of the replies in threads that may be hidden from the reader, newest first."""
    return await tx.all(
        """
        SELECT p.id, r.event_nid
        FROM unnest(%(ids)s::text[], %(rooms)s::bigint[], %(unsure)s::bigint[]) AS p (id, room, unsure),
             LATERAL (SELECT event_nid FROM relations
                      WHERE parent_id = p.id AND rel_type = 'm.thread' AND room_nid = p.room
                            AND event_nid <= p.unsure AND NOT sender_nid = ANY(%(ignored)s::bigint[])
                      ORDER BY event_nid DESC LIMIT %(limit)s) r
        """,
        ids=[parent.event_id for parent in parents],
        rooms=[parent.room_nid for parent in parents],
        unsure=[parent.unsure_upto for parent in parents],
        ignored=list(ignored),
        limit=MAX_CHILDREN,
    )


def find_edits(batch: Pipeline, parents: Sequence[Parent]) -> Later[list[tuple[str, int]]]:
    """(event id, event_nid of an edit by its own sender and of its type), newest first. spec: #event-replacements (REL-04)"""
    return batch.all(
        """
        SELECT p.id, e.event_nid
        FROM unnest(%(ids)s::text[], %(rooms)s::bigint[], %(senders)s::bigint[], %(types)s::text[])
             AS p (id, room, sender, type),
             LATERAL (SELECT event_nid, c.origin_server_ts, c.event_id FROM relations r JOIN events c USING (event_nid)
                      WHERE r.parent_id = p.id AND r.rel_type = 'm.replace' AND r.room_nid = p.room
                            AND r.sender_nid = p.sender AND r.type = p.type
                      ORDER BY c.origin_server_ts DESC, c.event_id COLLATE "C" DESC LIMIT %(limit)s) e
        ORDER BY p.id, e.origin_server_ts DESC, e.event_id COLLATE "C" DESC
        """,
        ids=[parent.event_id for parent in parents],
        rooms=[parent.room_nid for parent in parents],
        senders=[parent.sender_nid for parent in parents],
        types=[parent.type for parent in parents],
        limit=MAX_EDITS,
    )


def find_references(
    batch: Pipeline, parents: Sequence[Parent], ignored: Sequence[int]
) -> Later[list[ReferenceRow]]:
    """Events that refer to these, oldest first."""
    return batch.rows(
        ReferenceRow,
        """
        SELECT p.id, c.event_nid, c.event_id
        FROM unnest(%(ids)s::text[], %(rooms)s::bigint[]) AS p (id, room),
             LATERAL (SELECT event_nid FROM relations
                      WHERE parent_id = p.id AND rel_type = 'm.reference' AND room_nid = p.room
                            AND NOT sender_nid = ANY(%(ignored)s::bigint[])
                      ORDER BY event_nid LIMIT %(limit)s) r
             JOIN events c USING (event_nid)
        ORDER BY c.event_nid
        """,
        ids=[parent.event_id for parent in parents],
        rooms=[parent.room_nid for parent in parents],
        ignored=list(ignored),
        limit=MAX_REFERENCES,
    )
