"""Readers in the metrics, in `/health`, and as findings of `atrium doctor`."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.log import store as log_store
from homeserver.log.entries import Position
from homeserver.log.readers import store
from homeserver.log.readers.service import ReaderService
from homeserver.log.readers.store import Status
from homeserver.log.tail import Tail
from homeserver.storage.database import Database

UNHELD = 15.0
"""Seconds after which a reader that no process runs is a fault."""


_RETRY = "atrium readers list NAME says which; atrium readers retry NAME tries them again at once"


class ReaderDown(Exception):
    """A reader is run by nobody; the message names it."""


class ReaderFigures(Collector):
    """What readers did in this process; lag and state of those that run here."""

    def __init__(self, service: ReaderService, tail: Tail) -> None:
        self._service = service
        self._tail = tail

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        held = GaugeMetricFamily(
            "atrium_reader_running", "Whether the reader runs in this process", labels=("reader",)
        )
        lag = GaugeMetricFamily(
            "atrium_reader_lag_entries", "Entries of the log the reader has not looked at", labels=("reader",)
        )
        behind = GaugeMetricFamily(
            "atrium_reader_cursors_behind", "Cursors with something to deliver", labels=("reader",)
        )
        failing = GaugeMetricFamily(
            "atrium_reader_cursors_failing", "Cursors whose last delivery failed", labels=("reader",)
        )
        items = CounterMetricFamily(
            "atrium_reader_items", "Items that were delivered, or given up", labels=("reader", "outcome")
        )
        failures = CounterMetricFamily("atrium_reader_failures", "Deliveries that failed", labels=("reader",))
        for name, figures in self._service.figures.items():
            runner = self._service.runners.get(name)
            held.add_metric((name,), float(runner is not None))
            items.add_metric((name, "delivered"), figures.delivered)
            items.add_metric((name, "given_up"), figures.given_up)
            failures.add_metric((name,), figures.failures)
            if runner is not None:
                cursors = runner.cursors.values()
                lag.add_metric((name,), self._tail.position - runner.scanned)
                behind.add_metric((name,), sum(cursor.has_work for cursor in cursors))
                failing.add_metric((name,), sum(cursor.failures > 0 for cursor in cursors))
        yield from (held, lag, behind, failing, items, failures)


async def check(service: ReaderService, db: Database) -> None:
    """For `/health`: raises `ReaderDown` where no process has run a reader for a while."""
    if not service.readers:
        return
    async with db.read() as tx:
        down = [status.name for status in await store.list_readers(tx) if _is_down(status)]
    if down := [name for name in down if name in service.readers]:
        raise ReaderDown(", ".join(down))


def _is_down(status: Status) -> bool:
    return status.lease_ended > UNHELD


async def findings(db: Database) -> list[tuple[bool, str, str]]:
    """For `atrium doctor`, of each reader: whether it is good, a sentence, and what to do."""
    async with db.read() as tx:
        head = await log_store.read_head(tx)
        statuses = await store.list_readers(tx)
    return [(not each.failing, _sentence(each, head), _RETRY if each.failing else "") for each in statuses]


def _sentence(status: Status, head: Position) -> str:
    sentence = f"Reader {status.name}: {head - status.position} entries behind"
    if status.behind:
        sentence += f", {status.behind} of its cursors have something to deliver"
    if status.failing:
        sentence += f", {status.failing} fail"
    return sentence
