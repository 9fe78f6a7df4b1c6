"""One server with several numbers of processes: medians of rounds that were measured in turns, against the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.report import number
from benchmarks.results import Round

HEADINGS = (
    "scenario", "server", "ops/s", "CPU ms", "to the first", "lowest to highest", "load, cores", "largest process MB",
)  # fmt: skip


def comparison(rounds: Sequence[Round], titles: Mapping[str, str]) -> str:
    """A markdown table: for each scenario and server the medians of its rounds; `titles` names the scenarios.

    "to the first" is the median, over the rounds, of the CPU per operation divided by that of the first server in the same
    round: what else the machine did then, it did to both.
    """
    rows = [HEADINGS, ("---",) * 2 + ("---:",) * (len(HEADINGS) - 2)]
    by_scenario: dict[str, dict[str, list[Round]]] = {}
    for one in rounds:
        by_scenario.setdefault(one.scenario, {}).setdefault(one.server, []).append(one)
    for scenario, servers in by_scenario.items():
        first = next(iter(servers.values()))
        for server, measured in servers.items():
            rows.append((titles[scenario], server, *_figures(measured, first)))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _figures(measured: Sequence[Round], first: Sequence[Round]) -> tuple[str, ...]:
    ratios = [one.cpu / other.cpu for one, other in zip(measured, first, strict=False) if other.cpu]
    costs = [one.cpu for one in measured]
    return (
        number(median(one.operations / one.seconds for one in measured)),
        number(median(costs)),
        number(median(ratios)) if ratios and measured is not first else "",
        f"{number(min(costs))} to {number(max(costs))}",
        number(median(one.load_cpu / one.seconds for one in measured)),
        number(max(one.largest_bytes for one in measured) / 1e6),
    )
