"""SQL of bundled aggregations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.storage.tx import Later, Pipeline

MAX_REFERENCES = 100


class ThreadRow(NamedTuple):
    """A thread in short."""

    root_id: str
    count_: int
    latest_nid: int
    participated: bool


def find_threads(batch: Pipeline, event_ids: Sequence[str], reader_nid: int) -> Later[list[ThreadRow]]:
    """Threads that begin at these events."""
    return batch.rows(
        ThreadRow,
        """
        SELECT r.parent_id, count(*), max(r.event_nid), bool_or(r.sender_nid = %(reader)s)
        FROM relations r WHERE r.parent_id = ANY(%(ids)s::text[]) AND r.rel_type = 'm.thread' GROUP BY r.parent_id
        """,
        ids=list(event_ids),
        reader=reader_nid,
    )


def find_edits(batch: Pipeline, event_ids: Sequence[str]) -> Later[list[tuple[str, int]]]:
    """(event id, the newest edit by its own sender). spec: #event-replacements (REL-04)"""
    return batch.all(
        """
        SELECT DISTINCT ON (r.parent_id) r.parent_id, r.event_nid
        FROM relations r JOIN events c ON c.event_nid = r.event_nid JOIN events p ON p.event_id = r.parent_id
        WHERE r.parent_id = ANY(%(ids)s::text[]) AND r.rel_type = 'm.replace'
          AND c.sender_nid = p.sender_nid AND c.room_nid = p.room_nid AND p.key_nid IS NULL AND p.redacted_by IS NULL
          AND NOT EXISTS (SELECT 1 FROM relations o WHERE o.event_nid = p.event_nid AND o.rel_type = 'm.replace')
        ORDER BY r.parent_id, c.origin_server_ts DESC, c.event_id DESC
        """,
        ids=list(event_ids),
    )


def find_references(batch: Pipeline, event_ids: Sequence[str]) -> Later[list[tuple[str, str]]]:
    """(event id, id of an event that refers to it), oldest first."""
    return batch.all(
        """
        SELECT r.parent_id, c.event_id FROM relations r JOIN events c USING (event_nid)
        WHERE r.parent_id = ANY(%(ids)s::text[]) AND r.rel_type = 'm.reference'
        ORDER BY r.event_nid LIMIT %(limit)s
        """,
        ids=list(event_ids),
        limit=MAX_REFERENCES * 10,
    )
