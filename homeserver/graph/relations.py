"""Relations between events: read from the cleartext `m.relates_to`, kept beside the events.

spec: client-server-api/#forming-relationships-between-events (REL-01)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from homeserver.events.event import Event
from homeserver.graph.entry import EventEntry
from homeserver.log.entries import Written
from homeserver.matrix.ids import EventId
from homeserver.storage.tx import Pipeline, Tx

MAX_TEXT = 255


class Relation(NamedTuple):
    """What an event says it relates to."""

    parent_id: EventId
    rel_type: str
    key: str | None


def relation_of(event: Event) -> Relation | None:
    """None for state events, and for what is no relation: it is ignored, the event is kept."""
    if b'"m.relates_to"' not in event.pdu:  # canonical JSON has one way to write a key
        return None
    return None if event.state_key is not None else read_relation(event.content)


def read_relation(content: Mapping[str, Any]) -> Relation | None:
    """As `relation_of`, of the content of a message event."""
    relates = content.get("m.relates_to")
    if not isinstance(relates, dict):
        return None
    parent, kind, key = relates.get("event_id"), relates.get("rel_type"), relates.get("key")
    for text in (parent, kind):
        if not isinstance(text, str) or not text or len(text) > MAX_TEXT or "\0" in text:
            return None
    if not isinstance(key, str) or len(key) > MAX_TEXT or "\0" in key:
        key = None
    return Relation(EventId(str(parent)), str(kind), key)


def insert_relations(batch: Pipeline, written: Sequence[Written[EventEntry]]) -> None:
    """Of those events of a batch that relate to others."""
    rows = [
        (position, entry.persisted, relation)
        for position, entry in written
        if not entry.persisted.hidden and (relation := relation_of(entry.persisted.event)) is not None
    ]
    if not rows:
        return
    batch.execute(
        """
        INSERT INTO relations (event_nid, room_nid, sender_nid, parent_id, rel_type, type, key)
        SELECT nid, room, sender, parent, rel_type, type, nullif(key, '')
        FROM unnest(%(nids)s::bigint[], %(rooms)s::bigint[], %(senders)s::bigint[], %(parents)s::text[],
                    %(rel_types)s::text[], %(types)s::text[], %(keys)s::text[])
             AS row (nid, room, sender, parent, rel_type, type, key)
        """,
        nids=[position for position, _, _ in rows],
        rooms=[persisted.room_nid for _, persisted, _ in rows],
        senders=[persisted.sender_nid for _, persisted, _ in rows],
        parents=[relation.parent_id for _, _, relation in rows],
        rel_types=[relation.rel_type for _, _, relation in rows],
        types=[persisted.event.type for _, persisted, _ in rows],
        keys=[relation.key or "" for _, _, relation in rows],
    )


def delete_relations(batch: Pipeline, event_nids: Sequence[int]) -> None:
    """Of events that are redacted."""
    batch.execute("DELETE FROM relations WHERE event_nid = ANY(%(nids)s::bigint[])", nids=list(event_nids))


async def has_annotated(tx: Tx, room_nid: int, sender_nid: int, event_type: str, relation: Relation) -> bool:
    """Whether the sender has annotated the same event with the same key already. spec: #event-annotations (REL-07)"""
    return bool(
        await tx.value(
            """
            SELECT EXISTS (SELECT 1 FROM relations
                           WHERE parent_id = %(parent)s AND rel_type = 'm.annotation' AND room_nid = %(room)s
                             AND sender_nid = %(sender)s AND type = %(type)s AND key = %(key)s)
            """,
            parent=relation.parent_id,
            room=room_nid,
            sender=sender_nid,
            type=event_type,
            key=relation.key or "",
        )
    )
