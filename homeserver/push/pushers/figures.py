"""Notifications in the metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.push.pushers.gateway import Gateways


class PusherFigures(Collector):
    """Adds what this process has told gateways."""

    def __init__(self, gateways: Gateways) -> None:
        self._gateways = gateways

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        gateways = self._gateways
        sent = CounterMetricFamily("atrium_push", "Notifications to push gateways", labels=("outcome",))
        sent.add_metric(("taken",), gateways.taken)
        sent.add_metric(("failed",), gateways.failed)
        rejected = CounterMetricFamily(
            "atrium_push_rejected", "Push keys that gateways did not know any more", value=gateways.rejected
        )
        away = GaugeMetricFamily(
            "atrium_push_gateways_away",
            "Push gateways that are left alone since they do not answer",
            value=gateways.away,
        )
        yield from (sent, rejected, away)
