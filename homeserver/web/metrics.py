"""Counting requests for Prometheus.

Owns the numbers of HTTP. They are plain integers, read when somebody asks: the client library's own counters take a
lock each, five times per request.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds."""


class HttpMetrics(Collector):
    """Requests by operation, method and status; seconds by operation; how many are under way.

    Labels come from declarations, so there is a bounded number of them. Register it with a `CollectorRegistry`.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}  # counts per bucket, those above the last bound, the sum

    def count(self, operation: str, method: str, status: int, seconds: float) -> None:
        """Add one request that was answered."""
        key = (operation, method, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        row = self._seconds.get(operation)
        if row is None:
            row = self._seconds[operation] = [0] * (len(BUCKETS) + 1) + [0.0]
        row[bisect_left(BUCKETS, seconds)] += 1
        row[-1] += seconds

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        requests = CounterMetricFamily(
            "atrium_http_requests", "Requests answered", labels=("operation", "method", "status")
        )
        for (operation, method, status), count in list(self._requests.items()):
            requests.add_metric((operation, method, str(status)), count)
        yield requests
        seconds = HistogramMetricFamily(
            "atrium_http_request_seconds",
            "From a request's header to the end of its answer",
            labels=("operation",),
        )
        for operation, row in list(self._seconds.items()):
            total: float = 0
            buckets: list[tuple[str, float]] = []
            for bound, number in zip((*map(str, BUCKETS), "+Inf"), row[:-1], strict=True):
                total += number
                buckets.append((bound, total))
            seconds.add_metric((operation,), buckets, row[-1])
        yield seconds
        yield GaugeMetricFamily("atrium_http_requests_in_flight", "Requests under way", value=self.in_flight)
