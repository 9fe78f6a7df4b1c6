"""What is written down while a scenario runs: how many operations, how long each took, what they cost.

A meter is open in *windows*. What happens between windows (rooms made for the next batch) is not measured. Before a
window opens and after it closes the meter waits until the server is quiet, so that work a server puts off until after
its answer is counted, and work left over from before is not.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.procfs import Usage, Watched

QUIET_SECONDS = 0.2
QUIET_SHARE = 0.06  # of one core: below it nothing is being worked off, only timers fire
LONGEST_SETTLING = 10.0


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank); NaN without values."""
    if not values:
        return math.nan
    ordered = sorted(values)
    rank = math.ceil(percent / 100 * len(ordered))
    return ordered[max(rank, 1) - 1]


@dataclass
class Meter:
    """Collects one round of one scenario on one server.

    `seconds` is how long the scenario should measure; `latencies` are seconds; `notes` are further counts a scenario
    wants to report (deliveries, bytes).
    """

    watched: Watched
    seconds: float
    latencies: list[float] = field(default_factory=list)
    operations: int = 0
    open_seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    load_cpu: float = 0.0
    """CPU seconds of this process, which makes the load, in all windows."""
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def wants_more(self) -> bool:
        """Whether less has been measured than asked for."""
        return self.open_seconds < self.seconds

    def record(self, latency: float) -> None:
        """Count one operation that took `latency` seconds."""
        self.latencies.append(latency)
        self.operations += 1

    @asynccontextmanager
    async def window(self) -> AsyncIterator[None]:
        """Measure what is done inside; windows of one meter add up."""
        before = await self._settled()
        started, computed = time.perf_counter(), time.process_time()
        yield
        self.open_seconds += time.perf_counter() - started
        self.load_cpu += time.process_time() - computed
        self.usage += await self._settled() - before

    async def _settled(self) -> Usage:
        now = self.watched.usage()
        for _ in range(int(LONGEST_SETTLING / QUIET_SECONDS)):
            if not self.watched.server:
                break
            await asyncio.sleep(QUIET_SECONDS)
            earlier, now = now, self.watched.usage()
            if now.total - earlier.total <= QUIET_SHARE * QUIET_SECONDS:
                break
        return now
