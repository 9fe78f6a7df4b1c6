"""SQL that writes outliers: many events with one statement."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from homeserver.graph.state.chains import Row
from homeserver.matrix.ids import EventId
from homeserver.storage.tx import Later, Pipeline


class OutlierRow(NamedTuple):
    """An event as it is stored."""

    nid: int
    event_id: EventId
    sender_nid: int
    origin_server_ts: int
    key_nid: int
    """0: no state event."""
    flags: int
    stored: bytes
    """Its JSON, packed or not."""
    place: Row | None


def next_numbers(batch: Pipeline, count: int) -> Later[list[tuple[int]]]:
    """Numbers for outliers."""
    return batch.all("SELECT nextval('outlier_nids') FROM generate_series(1, %(count)s)", count=count)


def insert_outliers(
    batch: Pipeline, room_nid: int, rows: Sequence[OutlierRow]
) -> Later[list[tuple[EventId]]]:
    """Ids of those that were written: others have written the rest meanwhile."""
    places = [row.place for row in rows]
    return batch.all(
        """
        INSERT INTO events (event_nid, room_nid, sender_nid, state_nid, origin_server_ts, key_nid, flags, event_id, pdu,
                            chain, sequence, links)
        SELECT nid, %(room)s, sender, 0, ts, nullif(key, 0), flags, id, pdu,
               nullif(chain, 0), nullif(sequence, 0), nullif(links, '')
        FROM unnest(%(nids)s::bigint[], %(senders)s::bigint[], %(ts)s::bigint[], %(keys)s::int[], %(flags)s::smallint[],
                    %(ids)s::text[], %(pdus)s::bytea[], %(chains)s::bigint[], %(sequences)s::int[], %(links)s::bytea[])
             AS row (nid, sender, ts, key, flags, id, pdu, chain, sequence, links)
        ON CONFLICT DO NOTHING RETURNING event_id
        """,
        room=room_nid,
        nids=[row.nid for row in rows],
        senders=[row.sender_nid for row in rows],
        ts=[row.origin_server_ts for row in rows],
        keys=[row.key_nid for row in rows],
        flags=[row.flags for row in rows],
        ids=[row.event_id for row in rows],
        pdus=[row.stored for row in rows],
        chains=[place.chain or 0 if place else 0 for place in places],
        sequences=[place.sequence if place else 0 for place in places],
        links=[place.links or b"" if place else b"" for place in places],
    )


def find_unplaced(batch: Pipeline, nids: Collection[int]) -> Later[list[tuple[int]]]:
    """Those of the state events that have no place in the chain cover."""
    return batch.all(
        """
        SELECT event_nid FROM events
        WHERE event_nid = ANY(%(nids)s::bigint[]) AND sequence IS NULL AND key_nid IS NOT NULL
              AND moved_to IS NULL
        """,
        nids=list(nids),
    )


def find_numbers(batch: Pipeline, event_ids: Collection[EventId]) -> Later[list[tuple[EventId, int]]]:
    """(event_id, event_nid) of those that are here."""
    return batch.all(
        "SELECT event_id, event_nid FROM events WHERE event_id = ANY(%(ids)s::text[]) AND moved_to IS NULL",
        ids=list(event_ids),
    )
