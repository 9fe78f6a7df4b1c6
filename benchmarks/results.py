"""What was measured, round by round, and what all rounds say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.meter import Meter, percentile


@dataclass(frozen=True)
class Round:
    """One round of one scenario on one server: seconds throughout, bytes of resident memory."""

    scenario: str
    server: str
    operations: int
    seconds: float
    latencies: Sequence[float]
    server_cpu: float
    database_cpu: float
    resident_bytes: int
    notes: dict[str, float] = field(default_factory=dict)
    largest_bytes: int = 0
    load_cpu: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU milliseconds per operation, server and database together."""
        return (self.server_cpu + self.database_cpu) / (self.operations or math.nan) * 1000

    @classmethod
    def of(cls, scenario: str, server: str, meter: Meter) -> Round:
        """What a meter has collected."""
        return cls(
            scenario=scenario,
            server=server,
            operations=meter.operations,
            seconds=meter.open_seconds,
            latencies=meter.latencies,
            server_cpu=meter.usage.server,
            database_cpu=meter.usage.database,
            resident_bytes=meter.usage.resident_bytes,
            largest_bytes=meter.usage.largest_bytes,
            load_cpu=meter.load_cpu,
            notes=meter.notes,
        )


@dataclass(frozen=True)
class Figures:
    """One line of the report: latencies in milliseconds, CPU in seconds per 1 000 operations, memory in bytes."""

    scenario: str
    server: str
    operations: int
    per_second: float
    p50: float
    p99: float
    server_cpu: float
    database_cpu: float
    resident_bytes: int
    notes: dict[str, float]

    @property
    def cpu(self) -> float:
        """CPU seconds per 1 000 operations, server and database together; the same number in ms per operation."""
        return self.server_cpu + self.database_cpu


def summarise(rounds: Sequence[Round]) -> Figures:
    """Rounds of the same scenario on the same server, as if they had been one long round."""
    first = rounds[0]
    operations = sum(one.operations for one in rounds)
    latencies = [latency for one in rounds for latency in one.latencies]
    notes: dict[str, float] = {}
    for one in rounds:
        for name, value in one.notes.items():
            notes[name] = notes.get(name, 0.0) + value
    thousands = operations / 1000 if operations else math.nan
    return Figures(
        scenario=first.scenario,
        server=first.server,
        operations=operations,
        per_second=operations / (sum(one.seconds for one in rounds) or math.nan),
        p50=percentile(latencies, 50) * 1000,
        p99=percentile(latencies, 99) * 1000,
        server_cpu=sum(one.server_cpu for one in rounds) / thousands,
        database_cpu=sum(one.database_cpu for one in rounds) / thousands,
        resident_bytes=rounds[-1].resident_bytes,
        notes=notes,
    )
