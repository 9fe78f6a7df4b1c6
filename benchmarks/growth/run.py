"""`python -m benchmarks growth`: how costs grow from 100 to 100 000 rooms, members, devices, messages; 1 000 000 events.

Each curve has a database of its own, as shipped (fsync on). `--most 1000` for a quick try; all of it takes some twenty minutes
on two cores. `--write` puts table and charts into docs/.

Rooms and members are made by the server itself, which takes most of the time. Their databases can be kept, so that they are
built in parts, beside other work, and measured when nothing else runs:

    python -m benchmarks growth --only rooms,members --most 10000 --json F --keep FOLDER        # sizes up to 10 000
    python -m benchmarks growth --only rooms,members --keep FOLDER --build --minutes 5          # … as often as it takes
    python -m benchmarks growth --only rooms,members --json F --keep FOLDER --write             # what F lacks
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.core.search import Client
from benchmarks.growth import chart, curves
from benchmarks.growth.place import Cost, Figures, Kept, place
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
RESUMABLE = {"rooms", "members"}
FIRST = 100
BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
DOCS = Path(__file__).resolve().parents[2] / "docs"


def sizes(most: int) -> list[int]:
    """100, 1 000 and so on."""
    found = [FIRST]
    while found[-1] * 10 <= most:
        found.append(found[-1] * 10)
    return found


async def measured(
    name: str, wanted: list[int], where: tuple[str, Path, Watched], kept: Kept | None = None
) -> Figures | None:
    """One curve; None if nothing was measured. `where`: database, folder, whose time counts. `kept`: for those that can go on."""
    curve, limit = CURVES[name]
    dsn, folder, watched = where
    token = folder / "token"

    @contextlib.asynccontextmanager
    async def open_(client: Client | None) -> Any:
        async with place(dsn, folder, watched, client) as here:
            token.write_text(here.client.token)
            yield here

    figures: Figures | None = None
    given = {} if kept is None else {"kept": kept}
    async for figures in curve(open_, [size for size in wanted if size <= limit], **given):  # noqa: B007  # the last one has all
        pass
    return figures


def merged(before: Figures | None, now: Figures | None) -> Figures | None:
    """The figures of two runs; of the same size those of the later one."""
    if before is None or now is None:
        return now or before
    for what, costs in now.costs.items():
        before.costs[what] = dict(sorted({**before.costs.get(what, {}), **costs}.items()))
    return before


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


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default=",".join(CURVES), help="curves, with commas between")
    parser.add_argument("--most", type=int, default=1_000_000, help="the largest size")
    parser.add_argument("--json", type=Path, help="keep the figures there; those of other curves in it stay")
    parser.add_argument(
        "--keep", type=Path, help="keep the databases of rooms and members there, and go on from them"
    )
    parser.add_argument("--build", action="store_true", help="with --keep: measure nothing")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of building a curve at most")
    parser.add_argument("--write", action="store_true", help="put table and charts into docs/")
    asked = parser.parse_args(arguments)
    if asked.keep is None and (asked.build or asked.minutes < math.inf):
        parser.error("--build and --minutes go with --keep")
    if asked.keep is not None and not {*asked.only.split(",")} <= RESUMABLE:
        parser.error(f"--keep goes with --only {','.join(sorted(RESUMABLE))}")
    return asked


@contextlib.contextmanager
def _folder(asked: argparse.Namespace, name: str) -> Iterator[Path]:
    """Where the database of a curve lies."""
    if asked.keep is not None:
        (folder := asked.keep / name).mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="atrium-growth-", ignore_cleanup_errors=True) as given:
        yield Path(given)


def _run(asked: argparse.Namespace, name: str, before: Figures | None) -> tuple[Figures | None, str]:
    """One curve, and what the database says of itself."""
    with _folder(asked, name) as folder, own_database(folder, "growth") as (postgres, dsn):
        migrate.apply(dsn)
        watched = Watched((), (postgres.pid or 0,))
        wanted, kept = sizes(asked.most), None
        if asked.keep is not None:
            have = {size for costs in before.costs.values() for size in costs} if before else set()
            wanted = [size for size in wanted if size not in have]
            token = folder / "token"
            kept = Kept(
                token.read_text() if token.exists() else None,
                time.monotonic() + asked.minutes * 60,
                measures=not asked.build,
            )
        found = asyncio.run(measured(name, wanted, (dsn, folder, watched), kept))
        return merged(before if kept else None, found), describe(dsn)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table; 0."""
    asked = _asked(arguments)
    done = _kept(asked.json)
    told = ""
    for name in asked.only.split(","):
        found, told = _run(asked, name, done.get(name))
        if found is not None:
            done[name] = found
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
