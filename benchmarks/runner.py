"""Measures scenarios on servers, one server after the other within each round, so that both see the same machine."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.meter import Meter
from benchmarks.procfs import Watched
from benchmarks.report import number
from benchmarks.results import Figures, Round, summarise
from benchmarks.scenario import Scenario
from benchmarks.stage import Stage

LONGEST_PREPARATION = 1800.0
WARM_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Plan:
    """What to measure, how often, and for how many seconds each time."""

    scenarios: Sequence[type[Scenario]]
    rounds: int
    seconds: float


@dataclass
class Outcome:
    """All figures, in the order of the plan, and what could not be measured, in words."""

    figures: list[Figures] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


async def run(plan: Plan, stages: Sequence[Stage], tell: Callable[[str], None]) -> Outcome:
    """Measure everything; a scenario that fails on a server is reported and left out there."""
    outcome = Outcome()
    for kind in plan.scenarios:
        ready = [
            scenario
            for stage in stages
            if (scenario := await _prepared(kind, stage, outcome, tell)) is not None
        ]
        rounds: dict[str, list[Round]] = {scenario.stage.label: [] for scenario in ready}
        for turn in range(plan.rounds):
            for scenario in ready if turn % 2 == 0 else reversed(ready):
                meter = Meter(scenario.stage.watched, plan.seconds)
                if await _attempt(kind, scenario, meter, outcome):
                    measured = Round.of(kind.name, scenario.stage.label, meter)
                    rounds[scenario.stage.label].append(measured)
                    tell(_line(measured, turn))
        outcome.figures.extend(summarise(measured) for measured in rounds.values() if measured)
        outcome.rounds.extend(one for measured in rounds.values() for one in measured)
    return outcome


async def _prepared(
    kind: type[Scenario], stage: Stage, outcome: Outcome, tell: Callable[[str], None]
) -> Scenario | None:
    started = time.perf_counter()
    scenario = kind(stage)
    try:
        async with asyncio.timeout(LONGEST_PREPARATION):
            await scenario.prepare()
    except Exception as failure:  # noqa: BLE001  # whatever goes wrong on one server, the other is still measured
        outcome.failures.append(f"{kind.name} on {stage.label}, preparation: {_words(failure)}")
        return None
    if not await _attempt(kind, scenario, Meter(Watched(), WARM_UP_SECONDS), outcome):
        return None
    tell(f"{kind.name:16} {stage.label:8} ready after {time.perf_counter() - started:.1f} s")
    gc.collect()
    gc.freeze()  # accounts and prepared requests stay; the collector need not look at them while we measure
    return scenario


async def _attempt(kind: type[Scenario], scenario: Scenario, meter: Meter, outcome: Outcome) -> bool:
    try:
        async with asyncio.timeout(kind.longest + 20 * meter.seconds):
            await scenario.measure(meter)
    except Exception as failure:  # noqa: BLE001  # as above
        outcome.failures.append(f"{kind.name} on {scenario.stage.label}: {_words(failure)}")
        return False
    return True


def _words(failure: BaseException) -> str:
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return f"{type(failure).__name__}: {failure}"


def _line(measured: Round, turn: int) -> str:
    figures = summarise([measured])
    notes = figures.notes
    arrived = f"  {notes['arrived']:.0f} of {notes['sent']:.0f} arrived" if "sent" in notes else ""
    return (
        f"{measured.scenario:16} {measured.server:8} round {turn + 1}: {number(figures.per_second):>6}/s  "
        f"p50 {number(figures.p50):>6} ms  p99 {number(figures.p99):>6} ms  "
        f"CPU {number(figures.server_cpu)} + {number(figures.database_cpu)} ms each{arrived}"
    )


def tell(line: str) -> None:
    """Progress, where it does not mix with the report."""
    print(line, file=sys.stderr, flush=True)
