"""What is counted of jobs: what this process did, and what there is in the cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from homeserver.jobs.types import Backlog


class JobFigures(Collector):
    """Counts of this process are exact; those of the cluster are as old as the last `note`."""

    def __init__(self) -> None:
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._backlogs: Sequence[Backlog] = ()
        self._running = 0

    def count(self, kind: str, outcome: Literal["done", "delayed", "given_up"]) -> None:
        """One more attempt."""
        self._attempts[kind, outcome] += 1

    def note(self, backlogs: Sequence[Backlog], running: int) -> None:
        """What there is in the database now, and how many this process is on."""
        self._backlogs, self._running = backlogs, running

    @override
    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        attempts = CounterMetricFamily(
            "atrium_job_attempts", "Attempts at jobs by this process", labels=("kind", "outcome")
        )
        for (kind, outcome), count in list(self._attempts.items()):
            attempts.add_metric((kind, outcome), count)
        waiting = GaugeMetricFamily("atrium_jobs_waiting", "Jobs that are not done yet", labels=("kind",))
        failed = GaugeMetricFamily("atrium_jobs_failed", "Jobs that were given up", labels=("kind",))
        overdue = GaugeMetricFamily(
            "atrium_jobs_overdue_seconds", "How long the longest waiting job has been due", labels=("kind",)
        )
        for backlog in self._backlogs:
            waiting.add_metric((backlog.kind,), backlog.waiting)
            failed.add_metric((backlog.kind,), backlog.failed)
            overdue.add_metric((backlog.kind,), backlog.overdue)
        running = GaugeMetricFamily(
            "atrium_jobs_running", "Jobs under way in this process", value=self._running
        )
        yield from (attempts, waiting, failed, overdue, running)
