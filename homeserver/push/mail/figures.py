"""Mails about unread messages in the metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.push.mail.service import MailDigests


class MailFigures(Collector):
    """Adds what became of looks at what is unread, in this process."""

    def __init__(self, mails: MailDigests) -> None:
        self._mails = mails

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        mails = self._mails
        family = CounterMetricFamily(
            "atrium_push_mail", "Mails about unread messages, and why there was none", labels=("outcome",)
        )
        for outcome, count in (
            ("sent", mails.sent),
            ("failed", mails.failed),
            ("read", mails.read),
            ("online", mails.online),
        ):
            family.add_metric((outcome,), count)
        yield family
