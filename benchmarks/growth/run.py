"""`python -m benchmarks growth`: how costs grow from 100 to 100 000 rooms, members, devices, messages; 1 000 000 events.

Each curve has a database of its own, as shipped (fsync on). `--most 1000` for a quick try; all of it takes some twenty minutes
on two cores. `--write` puts table and charts into docs/.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.core.search import Client
from benchmarks.growth import chart, curves
from benchmarks.growth.place import Cost, Figures, place
from benchmarks.procfs import Watched
from benchmarks.report import machine, write_into
from benchmarks.servers.database import describe, own_database
from homeserver.storage import migrate

CURVES: dict[str, tuple[Callable[..., Any], int]] = {
    "rooms": (curves.rooms, 100_000),
    "members": (curves.members, 100_000),
    "events": (curves.events, 1_000_000),
    "devices": (curves.devices, 100_000),
    "backlog": (curves.backlog, 100_000),
}
FIRST = 100
BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
DOCS = Path(__file__).resolve().parents[2] / "docs"


def sizes(most: int) -> list[int]:
    """100, 1 000 and so on."""
    found = [FIRST]
    while found[-1] * 10 <= most:
        found.append(found[-1] * 10)
    return found


async def measured(name: str, most: int, dsn: str, folder: Path, watched: Watched) -> Figures:
    """One curve."""
    curve, limit = CURVES[name]

    def open_(client: Client | None) -> Any:
        return place(dsn, folder, watched, client)

    figures: Figures | None = None
    async for figures in curve(open_, sizes(min(most, limit))):  # noqa: B007  # the last one has all
        pass
    assert figures is not None
    return figures


def table(all_figures: Sequence[Figures], about: str) -> str:
    """In Markdown: milliseconds of CPU, and the median time of the largest."""
    lines: list[str] = []
    for figures in all_figures:
        columns = sorted({size for costs in figures.costs.values() for size in costs})
        titles = " | ".join(f"{size:,}".replace(",", " ") for size in columns)
        lines += [f"| {figures.title}: CPU, ms | {titles} | median of the last, ms |"]
        lines += ["| --- |" + " ---: |" * (len(columns) + 1)]
        for name, costs in figures.costs.items():
            cells = [_number(costs[size].cpu_ms) if size in costs else "-" for size in columns]
            last = costs[max(costs)].median_ms
            lines.append(f"| {name} | {' | '.join(cells)} | {_number(last)} |")
        lines.append("")
    return "\n".join([*lines, about])


def _number(milliseconds: float) -> str:
    if milliseconds >= 100:
        return f"{milliseconds:,.0f}".replace(",", " ")
    return f"{milliseconds:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks growth", description=__doc__)
    parser.add_argument("--only", default=",".join(CURVES), help="curves, with commas between")
    parser.add_argument("--most", type=int, default=1_000_000, help="the largest size")
    parser.add_argument("--json", type=Path, help="keep the figures there; those of other curves in it stay")
    parser.add_argument("--write", action="store_true", help="put table and charts into docs/")
    asked = parser.parse_args(arguments)
    done = _kept(asked.json)
    told = ""
    for name in asked.only.split(","):
        with (
            tempfile.TemporaryDirectory(prefix="atrium-growth-", ignore_cleanup_errors=True) as given,
            own_database(folder := Path(given), "growth") as (postgres, dsn),
        ):
            migrate.apply(dsn)
            told = describe(dsn)
            watched = Watched((), (postgres.pid or 0,))
            done[name] = asyncio.run(measured(name, asked.most, dsn, folder, watched))
        if asked.json:
            asked.json.write_text(
                json.dumps({each: asdict(figures) for each, figures in done.items()}, indent=1)
            )
    in_order = [done[name] for name in CURVES if name in done]
    text = table(in_order, f"One process, {told}, {machine()}, the client in the same process.")
    print(text)
    if asked.write:
        charts = DOCS / "growth"
        charts.mkdir(exist_ok=True)
        for name, figures in done.items():
            (charts / f"{name}.svg").write_text(chart.svg(figures))
        write_into(DOCS / "performance.md", text, BEGIN, END)
    return 0


def _kept(file: Path | None) -> dict[str, Figures]:
    if file is None or not file.exists():
        return {}
    found = {}
    for name, raw in json.loads(file.read_text()).items():
        costs = {
            what: {int(size): Cost(**cost) for size, cost in each.items()}
            for what, each in raw["costs"].items()
        }
        found[name] = Figures(raw["title"], raw["unit"], costs)
    return found
