"""What a destination lacks that was away, found by what it has in common with us instead of by looking through the log.

After a short time everything; after a long outage the last of our events in each room: with it the other server finds out what
it lacks, and fetches it. EDUs of durable sources all the same. spec: server-server-api/#transactions (CHECKLIST FED-43)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from psycopg import errors

from federation.outbound import store
from federation.outbound.edus import EduSources
from federation.outbound.interest import Interest
from federation.outbound.relays import RelaySource
from federation.outbound.sticky import OwnSticky
from homeserver.graph.event_cache import EventCache
from homeserver.log.entries import Position
from homeserver.log.readers.types import Behind, Item, Slice
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

log = structlog.get_logger(__name__)

NEAR: Final = 5_000
"""Positions of the log that are looked through rather than searched, for a destination that answers."""
FEW: Final = 100
"""Events that are all sent, however long the destination was away."""
MANY: Final = 500
"""Items found at once."""
LONG_OUTAGE_MS: Final = 15 * 60_000
"""Age of the first event that was not delivered, from which on the last of each room are sent in place of all."""


class CatchUp:
    """Answers the reader. Keeps nothing."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        db: Database,
        events: EventCache,
        interest: Interest,
        sources: EduSources,
        sticky: OwnSticky,
        clock: Clock,
        server_name: ServerName,
    ) -> None:
        self._db = db
        self._events = events
        self._interest = interest
        self._sources = sources
        self._sticky = sticky
        self._clock = clock
        self._server_name = server_name
        self._relays = RelaySource()
        self.collapsed = 0
        """How often the last event of each room was sent in place of all."""

    async def resume(self, behind: Behind) -> Slice | None:
        """See `Reader.resume`."""
        if not behind.failures and behind.upto - behind.after <= NEAR:
            return None
        try:
            sticky = [each.nid for each in await self._sticky.everywhere(behind.after, behind.upto)]
            async with self._db.read() as tx:
                items, upto = await self._find(tx, behind, sticky)
        except errors.QueryCanceled:  # of a destination that shares more than can be looked through in time
            log.warning("federation.catch_up_too_large", destination=behind.key)
            return None
        wanted = await self._interest.of(items)
        mine = [item for item, servers in zip(items, wanted, strict=True) if behind.key in servers]
        return Slice(mine, upto)

    async def _find(self, tx: Tx, behind: Behind, sticky: Sequence[int]) -> tuple[list[Item[Any]], Position]:
        destination = ServerName(behind.key)
        nids, upto = await self._find_events(tx, behind, sticky)
        others: list[Item[Any]] = []
        for source in self._sources.durable:
            found = await source.resume(tx, destination, (behind.after, upto), MANY)
            others += found.items
            upto = min(upto, found.upto)
        relayed = await self._relays.read(tx, behind.after, upto, MANY)
        others += relayed.items
        upto = min(upto, relayed.upto)
        events = await self._events.load_in(tx, [nid for nid in nids if nid <= upto])
        items = [Item(nid, persisted) for nid, persisted in events.items()]
        items += [item for item in others if item.position <= upto]
        return sorted(items, key=lambda item: item.position), upto

    async def _find_events(
        self, tx: Tx, behind: Behind, sticky: Sequence[int]
    ) -> tuple[Sequence[int], Position]:
        """Events for a destination, and up to where these are all that it is to have. `sticky`: those that it is to have in any
        case (MSC4354).
        """
        bounds = (behind.after, behind.upto)
        rooms = await store.find_shared_rooms(tx, behind.key)
        removals = await store.find_removals(tx, behind.key, bounds, self._server_name, MANY)
        own = await store.find_own_events(tx, rooms, bounds, self._server_name, MANY)
        upto = behind.upto
        if len(own) > FEW and behind.failures and self._long_ago(own[0].origin_server_ts):
            self.collapsed += 1
            latest = await store.find_latest_own_events(tx, rooms, bounds, self._server_name)
            found = sorted({*latest, *sticky})
        else:
            found = [each.event_nid for each in own]
            upto = found[-1] if len(found) == MANY else upto
        if len(removals) == MANY:
            upto = min(upto, removals[-1])
        return sorted({nid for nid in (*found, *removals) if nid <= upto}), upto

    def _long_ago(self, ts_ms: int) -> bool:
        return self._clock.now_ms() - ts_ms > LONG_OUTAGE_MS
