"""Telling services: transactions in order, each once per id, again as it was until it is taken.

The reader of the log (`homeserver.log.readers`) says what comes next for whom. Before a transaction is sent it is noted
which entries it has; so whoever goes on, this process or another one, sends the same under the same id, which is the
position of its last entry.

A service that is not there is looked for twice a second, and told what waits as soon as it answers. One that is there and
does not take a transaction is tried again with growing pauses, which stay short.

spec: application-service-api/#pushing-events (CHECKLIST AS-06)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import structlog

from appservices import store
from appservices.client import AppserviceClient, Call, segment
from appservices.content import Content
from appservices.registry import Registry
from appservices.types import Service
from homeserver.e2ee.source import DeviceListSource
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Position
from homeserver.log.readers.types import GiveUp, Item
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database
from homeserver.to_device.entries import ToDeviceEntry
from homeserver.to_device.service import ToDeviceService
from homeserver.to_device.source import ToDeviceSource
from homeserver.web.outbound import OutboundError

log = structlog.get_logger(__name__)

MAX_BODY: Final = 900_000
"""Bytes of a transaction that has more than one entry: many bridges take no more than a mebibyte."""
ITEMS: Final = 100
"""Entries of a transaction."""
SEND_TIMEOUT: Final = 30.0
PROBE_EVERY: Final = 0.5
"""Seconds between two looks for a service that is not there."""
PROBES: Final = 30
"""After so many the looking counts as one more failure, and goes on."""
FIRST_PAUSE, LONGEST_PAUSE, SLOW_PAUSE = 0.1, 0.8, 5.0
PATIENCE: Final = 600.0
"""Seconds after which a service that refuses is tried every `SLOW_PAUSE` only."""


class NotTaken(Exception):
    """The service did not acknowledge; its text is fit for a log and for the administrator."""


class Begun(NamedTuple):
    """A transaction."""

    upto: Position
    body: bytes
    devices: dict[tuple[int, str], Position]
    """Of its to-device messages: to whom, and up to where."""
    positions: Sequence[Position] = ()


@dataclass(slots=True)
class Standing:
    """How it is with a service, as this process knows it."""

    begun: Begun | None = None
    taken: bool = False
    """Whether `begun` was acknowledged."""
    failures: int = 0
    since_ms: int | None = None
    """Since when nothing was taken."""
    since: float = 0.0
    absent: bool = False
    """Whether nobody answers there."""
    waiting_since_ms: int | None = None
    """When the oldest entry was sent that waits, as far as that is known."""
    transactions: int = 0
    entries: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where entries are had again by position."""

    events: EventCache
    to_device: ToDeviceSource
    device_lists: DeviceListSource


@dataclass(slots=True, kw_only=True)
class Delivery:
    """Fulfils `Reader.deliver`; one for all services of a process."""

    registry: Registry
    db: Database
    client: AppserviceClient
    content: Content
    sources: Sources
    to_device: ToDeviceService
    clock: Clock
    standings: dict[str, Standing] = field(default_factory=dict)
    """By id of the service."""

    async def deliver(self, key: str, items: Sequence[Item[Any]]) -> None:
        """Tell a service the next entries. Raises `NotTaken` if it does not take them, `GiveUp` if there is none."""
        service = self.registry.services.get(key)
        if service is None or service.url is None:
            self.standings.pop(key, None)
            raise GiveUp("there is no such application service any more, or it wants to hear nothing")
        standing = self.standings.setdefault(key, Standing())
        standing.waiting_since_ms = _sent_ms(items) or standing.waiting_since_ms
        try:
            if standing.failures:
                await self._wait(service, standing)
            while not await self._tell(service, standing, items):
                # Another process has told it something meanwhile: what it began last is looked up.
                standing.begun = None
        except (OutboundError, NotTaken) as error:
            await self._failed(service, standing, error)
            raise NotTaken(str(error)) from None
        standing.waiting_since_ms = None

    async def _tell(self, service: Service, standing: Standing, items: Sequence[Item[Any]]) -> bool:
        """False: what was begun last is something else than this process knows."""
        if standing.begun is None:
            standing.begun, standing.taken = await self._begun_before(service), False
        begun = standing.begun
        if begun is not None and not standing.taken and begun.upto >= items[0].position:
            await self._send(service, standing, begun)
        left = [item for item in items if begun is None or item.position > begun.upto]
        while left:
            count, body = await self._fitting(service, left[:ITEMS])
            batch, left = left[:count], left[count:]
            begun = Begun(batch[-1].position, body, _devices(batch), [item.position for item in batch])
            before = 0 if standing.begun is None else standing.begun.upto
            async with self.db.transaction() as tx:
                ours = await store.begin(tx, service.id, before, begun.upto, begun.positions)
            if not ours:
                return False
            standing.begun, standing.taken = begun, False
            await self._send(service, standing, begun)
        return True

    async def _fitting(self, service: Service, items: Sequence[Item[Any]]) -> tuple[int, bytes]:
        """How many of the next entries go into one transaction, and it."""
        count = len(items)
        while True:
            body = await self.content.body(service, items[:count])
            if len(body) <= MAX_BODY or count == 1:
                return count, body
            count = max(1, min(count - 1, count * MAX_BODY // len(body)))

    async def _begun_before(self, service: Service) -> Begun | None:
        """What another process, or this one before a restart, began last: the same entries again, as far as they are kept.

        What is told while it is fresh (typing, receipts) is left out.
        """
        async with self.db.read() as tx:
            row = await store.find_begun(tx, service.id)
            if row is None:
                return None
            events = await self.sources.events.load_in(tx, row.positions)
            others: list[Item[Any]] = []
            if service.ephemeral and row.positions:
                others += await self.sources.to_device.at(tx, row.positions)
            if service.encryption and row.positions:
                others += await self.sources.device_lists.at(tx, row.positions)
        items = [Item(nid, events[nid]) for nid in row.positions if nid in events] + others
        items.sort(key=lambda item: item.position)
        body = await self.content.body(service, items)
        return Begun(row.upto, body, _devices(items), row.positions)

    async def _send(self, service: Service, standing: Standing, begun: Begun) -> None:
        call = Call(
            method="PUT",
            path=f"/transactions/{segment(str(begun.upto))}",
            body=begun.body,
            timeout=SEND_TIMEOUT,
            legacy="",
        )
        reply = await self.client.call(service, call)
        if not reply.ok:
            raise NotTaken(f"it answered {reply.status}")
        if begun.devices and service.encryption:
            await self.to_device.delivered(begun.devices)
        standing.taken = True
        standing.begun = begun._replace(body=b"", devices={})
        standing.transactions += 1
        standing.entries += len(begun.positions)
        if standing.failures:
            await self._recovered(service, standing)

    # --- services that do not take it ----------------------------------------------------------------------------------

    async def _wait(self, service: Service, standing: Standing) -> None:
        """Until the service is back, as far as one can see. Raises `NotTaken` if it stays away."""
        if not standing.absent:
            patient = self.clock.monotonic() - standing.since < PATIENCE
            longest = LONGEST_PAUSE if patient else SLOW_PAUSE
            await self.clock.sleep(min(FIRST_PAUSE * 2.0 ** min(standing.failures - 1, 16), longest))
            return
        for _ in range(PROBES):
            if await self.client.answers(service):
                return
            await self.clock.sleep(PROBE_EVERY)
        raise NotTaken("nobody answers there")

    async def _failed(self, service: Service, standing: Standing, error: Exception) -> None:
        standing.failures += 1
        standing.refused += 1
        standing.absent = not await self.client.answers(service)
        if standing.since_ms is None:
            standing.since_ms, standing.since = self.clock.now_ms(), self.clock.monotonic()
            log.warning("appservice.not_told", service=service.id, reason=str(error))
            async with self.db.transaction() as tx:
                await store.note_failing(tx, service.id, standing.since_ms, str(error))

    async def _recovered(self, service: Service, standing: Standing) -> None:
        seconds = round(self.clock.monotonic() - standing.since, 1)
        log.info("appservice.told_again", service=service.id, after_seconds=seconds)
        standing.failures, standing.since_ms, standing.absent = 0, None, False
        async with self.db.transaction() as tx:
            await store.note_failing(tx, service.id, None, None)


def _devices(items: Sequence[Item[Any]]) -> dict[tuple[int, str], Position]:
    return {
        (item.value.user_nid, item.value.device_id): item.position
        for item in items
        if isinstance(item.value, ToDeviceEntry)
    }


def _sent_ms(items: Sequence[Item[Any]]) -> int | None:
    return next(
        (item.value.event.origin_server_ts for item in items if isinstance(item.value, PersistedEvent)), None
    )
