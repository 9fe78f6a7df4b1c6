"""The sender as the rest of the server sees it: a reader of the log, a registry of EDU sources, relays, and a word when a
server is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from federation.outbound import store
from federation.outbound.catch_up import CatchUp
from federation.outbound.edus import EduSources
from federation.outbound.ephemeral import Ephemeral
from federation.outbound.figures import Figures, OutboundFigures, Standing
from federation.outbound.interest import Interest
from federation.outbound.outcomes import Outcomes
from federation.outbound.relays import Relays, RelaySource
from federation.outbound.room_servers import RoomServers
from federation.outbound.sender import Sender
from federation.outbound.sticky import OwnSticky
from federation.outbound.store import READER
from federation.ports import Client, Partners
from homeserver.graph.event_cache import EventCache
from homeserver.graph.event_source import EventSource
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.visibility import VisibilityFilter
from homeserver.graph.write.sticky import StickyEvents
from homeserver.log.readers import commands as readers
from homeserver.log.readers.floor import passed_by_all
from homeserver.log.readers.service import ReaderService
from homeserver.log.readers.types import Backoff, Reader
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

BATCH: Final = 150
"""Items looked at for one transaction: `MAX_PDUS` and `MAX_EDUS` of them fit."""
DESTINATIONS_AT_ONCE: Final = 200
STRUGGLING_AT_ONCE: Final = 50
TIMEOUT: Final = 90.0
"""Seconds of a delivery; beyond what a request may take."""
BACKOFF: Final = Backoff(first=2.0, longest=3_600.0)
"""For a server that answers and does not take; for one that does not answer the pause is the transport's."""
MAX_BACK: Final = 1_000
"""Servers that are back and not tried yet; of more it is not heard that they are."""
BACK_EVERY: Final = 60.0
RELAYS_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the sender stands on."""

    db: Database
    log: LogWriter
    events: EventCache
    servers: RoomServers
    sticky: StickyEvents
    visibility: VisibilityFilter
    client: Client
    partners: Partners
    clock: Clock
    server_name: ServerName


class Outbound:
    """Sends to other servers. `run_with` before the server starts."""

    def __init__(self, parts: Parts, backoff: Backoff = BACKOFF) -> None:
        self.sources = EduSources()
        """Where features register their EDUs."""
        self.servers = parts.servers
        self._db = parts.db
        self._backoff = backoff
        self._readers: ReaderService | None = None
        self._relays = Relays(parts.log)
        self.outcomes = Outcomes(parts.db, parts.clock)
        self.ephemeral = Ephemeral(self.sources, parts.clock, runs=self._runs, nudge=self._nudge)
        sticky = OwnSticky(
            parts.sticky, parts.events, parts.servers, parts.visibility, parts.log, parts.server_name
        )
        self._interest = Interest(parts.servers, parts.events, sticky, parts.partners, parts.server_name)
        self._events = EventSource(parts.events)
        self._figures = Figures()
        self._catch_up = CatchUp(
            parts.db, parts.events, self._interest, self.sources, sticky, parts.clock, parts.server_name
        )
        self._sender = Sender(
            parts.client,
            parts.events,
            self.ephemeral,
            self.outcomes,
            self._figures,
            parts.clock,
            parts.server_name,
            parts.partners,
            self._nudge,
        )
        self._back: set[ServerName] = set()
        self.back = asyncio.Event()
        """There are servers to be tried again: `try_again`."""
        self.figures = OutboundFigures(self._figures, lambda: len(self.ephemeral), self._standings)

    def reader(self) -> Reader:
        """The declaration, when all sources are registered."""
        return Reader(
            name=READER,
            sources=[self._events, RelaySource(), *self.sources.durable],
            interest=self._interest.of,
            deliver=self._sender.deliver,
            resume=self._catch_up.resume,
            batch=BATCH,
            at_once=DESTINATIONS_AT_ONCE,
            struggling_at_once=STRUGGLING_AT_ONCE,
            timeout=TIMEOUT,
            backoff=self._backoff,
        )

    def run_with(self, readers: ReaderService) -> None:
        """What runs the reader."""
        self._readers = readers

    async def relay(self, persisted: PersistedEvent, servers: Collection[str] = ()) -> None:
        """See `Relays.relay`."""
        await self._relays.relay(persisted, servers)

    def is_back(self, destination: ServerName) -> None:
        """It has asked us something, or answered: what waits for it is sent soon. For `federation.transport`."""
        if len(self._back) < MAX_BACK:
            self._back.add(destination)
            self.back.set()

    async def try_again(self) -> None:
        """Once: those that are back, whichever process sends."""
        while self._back:
            await readers.retry(self._db, READER, self._back.pop())

    async def forget_relays(self) -> None:
        """Once: those that nobody needs any more."""
        while True:
            async with self._db.transaction() as tx:
                floor = await passed_by_all(tx)
                if floor is None or await store.delete_relays(tx, floor, RELAYS_AT_ONCE) < RELAYS_AT_ONCE:
                    return

    def _runs(self) -> bool:
        return self._readers is not None and self._readers.runs(READER)

    def _nudge(self, destination: str, after: float) -> None:
        if self._readers is not None:
            self._readers.nudge(READER, destination, after)

    def _standings(self) -> Iterator[Standing]:
        runner = self._readers.runners.get(READER) if self._readers is not None else None
        if runner is None:
            return
        for cursor in runner.cursors.values():
            if cursor.has_work:
                yield Standing(cursor.failures, max(runner.scanned - cursor.acked, 0), cursor.key)
