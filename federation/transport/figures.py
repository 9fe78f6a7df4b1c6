"""What requests to other servers come to, for Prometheus. No label names a server: there may be any number of them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from federation.transport.backoff import Backoff
from federation.transport.slots import Slots


class TransportFigures(Collector):
    """Plain counters of a process, read when somebody asks."""

    def __init__(self, backoff: Backoff, slots: Slots) -> None:
        self._backoff = backoff
        self._slots = slots
        self.in_flight = 0
        self.answered = 0
        """With what was asked for."""
        self.refused = 0
        """With an error, or not as specified."""
        self.failed = 0
        """Not at all."""

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """As long as a request is under way."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        outcomes = CounterMetricFamily(
            "atrium_federation_requests",
            "Requests to other servers, by what became of them",
            labels=["outcome"],
        )
        outcomes.add_metric(["answered"], self.answered)
        outcomes.add_metric(["refused"], self.refused)
        outcomes.add_metric(["failed"], self.failed)
        yield outcomes
        yield GaugeMetricFamily(
            "atrium_federation_requests_in_flight",
            "Requests to other servers under way",
            value=self.in_flight,
        )
        yield GaugeMetricFamily(
            "atrium_federation_requests_waiting",
            "Requests that wait until others to the same server have ended",
            value=self._slots.waiting,
        )
        yield GaugeMetricFamily(
            "atrium_federation_backing_off",
            "Servers that have not answered and are left alone for a while",
            value=len(self._backoff),
        )
