"""Places in the chain cover, as they are written: with the event, under the lock on the log, for state events alone.

An event that begins a chain has no `chain` in its row: the chain is called by the event's number, and its `sequence` is 1.
Links are packed numbers: target chain, target sequence, … . Events without a place were written before there were any, or
rest on such; `auth_cover` places them when somebody asks.
spec: rooms/v2/#definitions (auth difference)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from homeserver.events.state_resolution.chain_cover import Link, Place, Placement, place_event
from homeserver.storage.tx import Later, Pipeline

WINDOW = 16
"""How far back on a chain is looked whether it leads somewhere already; beyond it a link may be written twice."""

Rows = list[tuple[int, int, int, bool, int | None, bytes | None]]
"""(event_nid, chain, sequence, whether the chain ends there, a sequence at it or shortly before, links that leave it there)."""


class Row(NamedTuple):
    """A place as it is stored."""

    event_nid: int
    chain: int | None
    sequence: int
    links: bytes | None


class Placer:
    """Gives events their places, one after the other. Made for one batch, from what is known of the events it rests on."""

    def __init__(self, rows: Rows) -> None:
        self._places: dict[int, Place] = {}
        self._ends: dict[int, int] = {}
        self._links: dict[int, list[Link]] = {}
        for nid, chain, sequence, ends, leaving, links in rows:
            self._places[nid] = Place(chain, sequence)
            self._ends[chain] = sequence if ends else max(sequence + 1, self._ends.get(chain, 0))
            if leaving is not None and links is not None:
                # The batch may rest on earlier events of the chain, too: these do not lead where later ones do.
                self._links.setdefault(chain, []).extend(
                    Link(leaving, target) for target in unpack_links(links)
                )

    def move(self, nid: int, to: int) -> None:
        """An event gets another number; the place stays."""
        if nid in self._places:
            self._places[to] = self._places[nid]

    def place(self, nid: int, auth: Collection[int]) -> Row | None:
        """The place of a new event; None if one of its auth events has none."""
        places = [self._places[each] for each in auth if each in self._places]
        if len(places) < len(auth):
            return None
        placement: Placement = place_event(places, self._ends, self._links, nid)
        place = self._places[nid] = placement.place
        self._ends[place.chain] = place.sequence
        self._links.setdefault(place.chain, []).extend(placement.links)
        links = pack_links(placement.links) if placement.links else None
        return Row(nid, place.chain if place.sequence > 1 else None, place.sequence, links)


def find_rows(batch: Pipeline, nids: Collection[int]) -> Later[Rows]:
    """What a `Placer` must know of the auth events of what it places. Under the lock on the log's head."""
    return batch.all(
        """
        SELECT a.event_nid, a.chain, a.sequence, NOT EXISTS (
                   SELECT 1 FROM events n WHERE n.chain = a.chain AND n.sequence = a.sequence + 1) AS ends,
               l.sequence, l.links
        FROM (SELECT event_nid, coalesce(chain, event_nid) AS chain, sequence FROM events
              WHERE event_nid = ANY(%(nids)s::bigint[]) AND sequence IS NOT NULL) a
        LEFT JOIN LATERAL (
            SELECT sequence, links FROM events
            WHERE chain = a.chain AND sequence > a.sequence - %(window)s AND sequence <= a.sequence AND links IS NOT NULL
            UNION ALL
            SELECT 1, links FROM events WHERE event_nid = a.chain AND a.sequence <= %(window)s AND links IS NOT NULL
        ) l ON true
        """,
        nids=list(nids),
        window=WINDOW,
    )


def pack_links(links: Iterable[Link]) -> bytes:
    """Where links lead, as bytes."""
    return msgspec.msgpack.encode([number for link in links for number in link.target])


def unpack_links(packed: bytes) -> list[Place]:
    """The places that `pack_links` was given."""
    numbers: Sequence[int] = msgspec.msgpack.decode(packed, type=list[int])
    return [Place(numbers[at], numbers[at + 1]) for at in range(0, len(numbers), 2)]


def update_rows(batch: Pipeline, rows: Sequence[Row]) -> None:
    """Places of events that were written without."""
    batch.execute(
        """
        UPDATE events SET chain = nullif(row.chain, 0), sequence = row.sequence, links = nullif(row.links, '')
        FROM unnest(%(nids)s::bigint[], %(chains)s::bigint[], %(sequences)s::int[], %(links)s::bytea[])
             AS row (nid, chain, sequence, links)
        WHERE event_nid = row.nid
        """,
        nids=[row.event_nid for row in rows],
        chains=[row.chain or 0 for row in rows],
        sequences=[row.sequence for row in rows],
        links=[row.links or b"" for row in rows],
    )
