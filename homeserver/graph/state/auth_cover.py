"""Auth differences from the chain cover in the database: a few rows, however long the auth chains are.

Events that have no place yet (they were written before there were places) get theirs when somebody asks, room by room, oldest
first, a batch at a time under the lock on the log.
spec: rooms/v2/#definitions (auth difference), rooms/v12/#definitions (conflicted state subgraph)
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from homeserver.events.state_resolution.chain_cover import (
    ChainDifference,
    Link,
    NeedsCommon,
    NeedsLinks,
    Place,
    Reach,
    Span,
)
from homeserver.graph.event_cache import EventCache
from homeserver.graph.resolved import THIS_EVENT
from homeserver.graph.state import chains
from homeserver.log import head as log_head
from homeserver.matrix.ids import EventId
from homeserver.runtime.turns import next_turn
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

UNWRITTEN = 0
"""No event has this number, and so no chain."""
AT_ONCE = 500
"""Events that are placed in one transaction: writers wait that long."""


class AuthCover:
    """Answers auth differences from the chain cover in the database, and gives places to events that have none yet."""

    def __init__(self, db: Database, events: EventCache) -> None:
        self._db = db
        self._events = events

    async def difference(
        self,
        agreed: Collection[int],
        conflicted: Sequence[Collection[int]],
        own_auth: Collection[int],
        *,
        subgraph: bool,
    ) -> dict[EventId, int] | None:
        """Events in the auth chains of some states but not of all (and between conflicted ones), with their numbers.

        `agreed` are the events that all states have, `conflicted` what each has besides; OWN rests on `own_auth`. None if
        the cover cannot tell: events are missing in it that no backfill could place.
        """
        wanted = set(own_auth).union(*conflicted) - {THIS_EVENT}
        places = await self._places(wanted)
        if len(places) < len(wanted):
            places = await self._place(wanted)
        if len(places) < len(wanted):
            return None
        # What is not written yet gets a place for the time being, on a chain of its own.
        places[THIS_EVENT] = Place(UNWRITTEN, 1)
        links = {UNWRITTEN: [Link(1, places[nid]) for nid in own_auth]}
        sides = [[places[nid] for nid in side] for side in conflicted]
        difference = ChainDifference(None, sides, subgraph=subgraph)
        while needs := difference.advance():
            if isinstance(needs, NeedsLinks):
                difference.add_links(needs.chains, links | await self._links(needs.chains))
                continue
            young, places_of_young = await self._reaching(agreed, needs)
            if len(places_of_young) < len(young):
                if len(await self._place(young)) < len(young):
                    return None
                # They have got places on chains whose links were read before: begin anew, once, now that all have one.
                return await self.difference(agreed, conflicted, own_auth, subgraph=subgraph)
            difference.add_common(list(places_of_young.values()))
        found = await self._events_of(difference.spans())
        return {event_id: nid for nid, event_id in found}

    async def chain_of(self, nids: Collection[int]) -> dict[EventId, int] | None:
        """The auth chain of some state events: what they rest on, and what that rests on, with numbers; they themselves only
        where others of them rest on them. None if the cover cannot tell.

        spec: server-server-api/#auth-chain
        """
        if not nids:
            return {}
        places = await self._places(nids)
        if len(places) < len(nids):
            places = await self._place(nids)
        if len(places) < len(nids):
            return None
        starts = set(places.values())
        links: dict[int, Sequence[Link]] = {}
        await self._add_links(links, {place.chain for place in starts})
        below = {Place(chain, sequence - 1) for chain, sequence in starts if sequence > 1}
        below.update(
            link.target
            for chain in {place.chain for place in starts}
            for link in links[chain]
            if (chain, link.sequence) in starts
        )
        reach = Reach(below, links)
        while missing := reach.advance():
            await self._add_links(links, missing)
            await next_turn()  # of a large room this takes long
        spans = [Span(chain, 0, upto) for chain, upto in reach.upto.items()]
        return {event_id: nid for nid, event_id in await self._events_of(spans)}

    async def _add_links(self, links: dict[int, Sequence[Link]], wanted: Collection[int]) -> None:
        found = await self._links(wanted)
        links.update((chain, found.get(chain, ())) for chain in wanted)

    async def _reaching(
        self, agreed: Collection[int], needs: NeedsCommon
    ) -> tuple[set[int], dict[int, Place]]:
        """Those agreed events that may reach into the spans (what is written before an event cannot rest on it), and the places
        of those that have one.
        """
        async with self._db.read() as tx:
            first = await find_first(tx, list(needs.spans))
        first = THIS_EVENT if first is None else first
        # Backfilled events have negative numbers, which say nothing about when they were made.
        young = {nid for nid in agreed if nid >= first or nid < 0} if first > 0 else set(agreed)
        return young, await self._places(young)

    # --- rows --------------------------------------------------------------------------------------------------------

    async def _places(self, nids: Collection[int]) -> dict[int, Place]:
        if not nids:
            return {}
        async with self._db.read() as tx:
            return await find_places(tx, nids)

    async def _links(self, wanted: Collection[int]) -> dict[int, list[Link]]:
        async with self._db.read() as tx:
            rows = await find_links(tx, wanted)
        found: dict[int, list[Link]] = {}
        for chain, sequence, packed in rows:
            found.setdefault(chain, []).extend(Link(sequence, to) for to in chains.unpack_links(packed))
        return found

    async def _events_of(self, spans: Iterable[Span]) -> list[tuple[int, EventId]]:
        async with self._db.read() as tx:
            return await find_events(tx, list(spans))

    # --- events that have no place yet -------------------------------------------------------------------------------

    async def _place(self, wanted: Collection[int]) -> dict[int, Place]:
        """Place all state events of their rooms up to these; the places of these."""
        async with self._db.read() as tx:
            rooms = await tx.column(
                "SELECT DISTINCT room_nid FROM events WHERE event_nid = ANY(%(nids)s::bigint[])",
                nids=list(wanted),
            )
        for room in rooms:
            done: int | None = -(2**62)
            while done is not None:
                done = await self._place_some(room, done, max(wanted))
        return await self._places(wanted)

    async def _place_some(self, room_nid: int, after: int, upto: int) -> int | None:
        """Place the next batch. Returns up to where; None at the end."""
        async with self._db.read() as tx:
            nids = await find_unplaced(tx, room_nid, after, upto, AT_ONCE)
        if not nids:
            return None
        loaded = await self._events.load(nids)
        cited = {each for persisted in loaded.values() for each in persisted.event.auth_event_ids}
        numbers = await self._events.numbers(cited)
        async with self._db.transaction() as tx:
            async with tx.pipeline() as batch:
                log_head.lock(batch)  # nobody else continues a chain meanwhile
                known = chains.find_rows(batch, list(numbers.values()))
                again = batch.all(
                    "SELECT event_nid FROM events WHERE event_nid = ANY(%(nids)s::bigint[]) AND sequence IS NULL",
                    nids=nids,
                )
            placer = chains.Placer(known.result)
            rows: list[chains.Row] = []
            for nid in sorted(nid for (nid,) in again.result):
                auth = loaded[nid].event.auth_event_ids
                if all(each in numbers for each in auth):
                    row = placer.place(nid, {numbers[each] for each in auth})
                    rows += [row] if row is not None else []
            if rows:
                async with tx.pipeline() as batch:
                    chains.update_rows(batch, rows)
        return nids[-1]


async def find_places(tx: Tx, nids: Collection[int]) -> dict[int, Place]:
    """Places of those events that have one."""
    rows = await tx.all(
        """
        SELECT e.event_nid, coalesce(t.chain, t.event_nid), t.sequence
        FROM events e JOIN events t ON t.event_nid = coalesce(e.moved_to, e.event_nid)
        WHERE e.event_nid = ANY(%(nids)s::bigint[]) AND t.sequence IS NOT NULL
        """,
        nids=list(nids),
    )
    return {nid: Place(chain, sequence) for nid, chain, sequence in rows}


async def find_links(tx: Tx, wanted: Collection[int]) -> list[tuple[int, int, bytes]]:
    """(chain, sequence, links) of all links that leave these chains, in order."""
    return await tx.all(
        """
        SELECT chain, sequence, links FROM events WHERE chain = ANY(%(chains)s::bigint[]) AND links IS NOT NULL
        UNION ALL
        SELECT event_nid, 1, links FROM events
        WHERE event_nid = ANY(%(chains)s::bigint[]) AND sequence = 1 AND links IS NOT NULL
        ORDER BY 1, 2
        """,
        chains=list(wanted),
    )


async def find_events(tx: Tx, spans: Sequence[Span]) -> list[tuple[int, EventId]]:
    """(event_nid, event_id) of the events in the spans."""
    return await tx.all(
        """
        WITH span AS (SELECT * FROM unnest(%(chains)s::bigint[], %(afters)s::int[], %(uptos)s::int[])
                               AS row (chain, after, upto))
        SELECT e.event_nid, e.event_id FROM span s
        JOIN events e ON e.chain = s.chain AND e.sequence > s.after AND e.sequence <= s.upto
        UNION
        SELECT e.event_nid, e.event_id FROM span s JOIN events e ON e.event_nid = s.chain AND s.after = 0
        """,
        chains=[span.chain for span in spans],
        afters=[span.after for span in spans],
        uptos=[span.upto for span in spans],
    )


async def find_first(tx: Tx, spans: Sequence[Span]) -> int | None:
    """The lowest number that an event in the spans has, or had as an outlier: nothing with a lower one rests on them, unless it is
    negative.
    """
    first: int | None = await tx.value(
        """
        WITH span AS (SELECT * FROM unnest(%(chains)s::bigint[], %(afters)s::int[], %(uptos)s::int[])
                               AS row (chain, after, upto)),
             found AS (
                SELECT e.event_nid FROM span s
                JOIN events e ON e.chain = s.chain AND e.sequence > s.after AND e.sequence <= s.upto
                UNION
                SELECT e.event_nid FROM span s JOIN events e ON e.event_nid = s.chain AND s.after = 0)
        SELECT min(least(found.event_nid, o.event_nid)) FROM found LEFT JOIN events o ON o.moved_to = found.event_nid
        """,
        chains=[span.chain for span in spans],
        afters=[span.after for span in spans],
        uptos=[span.upto for span in spans],
    )
    return first


async def find_unplaced(tx: Tx, room_nid: int, after: int, upto: int, limit: int) -> list[int]:
    """State events of a room that have no place, oldest first."""
    return await tx.column(
        """
        SELECT event_nid FROM events
        WHERE room_nid = %(room)s AND key_nid IS NOT NULL AND sequence IS NULL AND moved_to IS NULL
              AND event_nid > %(after)s AND event_nid <= %(upto)s
        ORDER BY event_nid LIMIT %(limit)s
        """,
        room=room_nid,
        after=after,
        upto=upto,
        limit=limit,
    )
