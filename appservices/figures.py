"""Application services in the metrics and in `/health`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from appservices.delivery import Delivery
from homeserver.runtime.clock import Clock

LONG: Final = 60.0
"""Seconds after which a service that takes nothing is told in `/health`."""


class AppserviceFigures(Collector):
    """What services were told by this process, and how far behind they are."""

    def __init__(self, delivery: Delivery, clock: Clock) -> None:
        self._delivery = delivery
        self._clock = clock

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        label = ["service"]
        lag = GaugeMetricFamily(
            "atrium_appservice_lag_seconds", "Age of the oldest event the service has not taken", labels=label
        )
        failing = GaugeMetricFamily(
            "atrium_appservice_failing_seconds", "Since when the service takes nothing", labels=label
        )
        transactions = CounterMetricFamily(
            "atrium_appservice_transactions", "Transactions that were sent", labels=["service", "outcome"]
        )
        entries = CounterMetricFamily(
            "atrium_appservice_entries", "Entries of the log that the service has taken", labels=label
        )
        now_ms = self._clock.now_ms()
        for key, standing in self._delivery.standings.items():
            lag.add_metric((key,), _seconds(now_ms, standing.waiting_since_ms))
            failing.add_metric((key,), _seconds(now_ms, standing.since_ms))
            transactions.add_metric((key, "taken"), standing.transactions)
            transactions.add_metric((key, "failed"), standing.refused)
            entries.add_metric((key,), standing.entries)
        yield from (lag, failing, transactions, entries)

    def trouble(self) -> str | None:
        """Which services have taken nothing for long; None: all is well."""
        now_ms = self._clock.now_ms()
        lost = [
            f"{key} for {_seconds(now_ms, standing.since_ms):.0f} s"
            for key, standing in self._delivery.standings.items()
            if _seconds(now_ms, standing.since_ms) > LONG
        ]
        return f"application services that take nothing: {', '.join(sorted(lost))}" if lost else None


def _seconds(now_ms: int, since_ms: int | None) -> float:
    return 0.0 if since_ms is None else max(0.0, (now_ms - since_ms) / 1000)
