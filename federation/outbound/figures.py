"""The sender in the metrics: totals, and the destinations that are worst off, by name."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.log.entries import Position

WORST: Final = 10
"""Destinations that have figures of their own."""


@dataclass(slots=True)
class Figures:
    """What the sender did in this process."""

    transactions: int = 0
    failed: int = 0
    events: int = 0
    edus: int = 0
    refused: int = 0
    """Events that a destination did not take."""
    given_up: int = 0
    """Items that a destination would not even look at."""

    def sent(self, events: int, edus: int) -> None:
        """A transaction was acknowledged."""
        self.transactions += 1
        self.events += events
        self.edus += edus


class Standing(NamedTuple):
    """How far a destination is that has not everything, or fails."""

    failures: int
    behind: Position
    """Positions of the log between what it has acknowledged and how far the sender has looked."""
    destination: str


class OutboundFigures(Collector):
    """Adds what the sender did, and how those destinations are that have something to be delivered."""

    def __init__(
        self, figures: Figures, waiting: Callable[[], int], standings: Callable[[], Iterator[Standing]]
    ) -> None:
        """`waiting`: ephemeral values in memory; `standings`: of this process, if it runs the sender."""
        self._figures = figures
        self._waiting = waiting
        self._standings = standings

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        figures = self._figures
        transactions = CounterMetricFamily(
            "atrium_federation_transactions", "Transactions to other servers", labels=("outcome",)
        )
        transactions.add_metric(("acknowledged",), figures.transactions)
        transactions.add_metric(("failed",), figures.failed)
        sent = CounterMetricFamily(
            "atrium_federation_sent", "What other servers have acknowledged", labels=("kind",)
        )
        sent.add_metric(("event",), figures.events)
        sent.add_metric(("edu",), figures.edus)
        refused = CounterMetricFamily(
            "atrium_federation_refused", "What other servers did not take", labels=("kind",)
        )
        refused.add_metric(("event",), figures.refused)
        refused.add_metric(("item_given_up",), figures.given_up)
        waiting = GaugeMetricFamily(
            "atrium_federation_ephemeral_waiting", "Typing, receipts and presence kept to be sent"
        )
        waiting.add_metric((), self._waiting())
        yield from (transactions, sent, refused, waiting, *self._of_destinations())

    def _of_destinations(self) -> Iterator[Metric]:
        standings = list(self._standings())
        count = GaugeMetricFamily(
            "atrium_federation_destinations", "Destinations with something to deliver", labels=("state",)
        )
        failing = sum(each.failures > 0 for each in standings)
        count.add_metric(("failing",), failing)
        count.add_metric(("behind",), len(standings) - failing)
        failures = GaugeMetricFamily(
            "atrium_federation_worst_failures",
            "Failures in a row of the destinations that are worst off",
            labels=("destination",),
        )
        behind = GaugeMetricFamily(
            "atrium_federation_worst_behind_entries",
            "Entries of the log that the destinations that are worst off have not acknowledged",
            labels=("destination",),
        )
        for each in heapq.nlargest(WORST, standings):
            failures.add_metric((each.destination,), each.failures)
            behind.add_metric((each.destination,), each.behind)
        yield from (count, failures, behind)
