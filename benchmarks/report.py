"""The report: a markdown table for people, JSON for programs, and the place in the documentation where the table stands."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.results import Figures

BEGIN = "<!-- benchmarks: begin -->"
END = "<!-- benchmarks: end -->"
HEADINGS = (
    "scenario", "server", "ops/s", "p50 ms", "p99 ms", "server", "PostgreSQL", "CPU s per 1 000", "less CPU", "memory MB",
)  # fmt: skip


@dataclass(frozen=True)
class Report:
    """All figures of a run; `titles` names the scenarios, `about` says how each server was set up and run."""

    figures: Sequence[Figures]
    titles: Mapping[str, str]
    about: Sequence[str]
    reference: str = "synapse"

    def markdown(self) -> str:
        """The table, the fan-out's deliveries below it, and what was measured on what."""
        rows = [HEADINGS, ("---",) * 2 + ("---:",) * (len(HEADINGS) - 2), *map(self._row, self.figures)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        deliveries = "\n".join(
            _deliveries(one, self.titles) for one in self.figures if "deliveries" in one.notes
        )
        memory = "\n".join(_laps(one, self.titles) for one in self.figures if "MB after lap 1" in one.notes)
        remarks = "\n".join(
            f"- {self.titles[one.scenario]}, {one.server}: {_remark(one)}."
            for one in self.figures
            if _remark(one)
        )
        about = "\n".join(f"- {line}" for line in self.about)
        parts = (table, deliveries, memory, remarks, about)
        return "\n\n".join(part for part in parts if part) + "\n"

    def json(self) -> str:
        """The same figures, unrounded."""
        figures = [{**asdict(one), "cpu": one.cpu} for one in self.figures]
        return json.dumps({"about": list(self.about), "figures": figures}, indent=1)

    def _row(self, one: Figures) -> tuple[str, ...]:
        return (
            self.titles[one.scenario],
            one.server,
            number(one.per_second),
            number(one.p50),
            number(one.p99),
            number(one.server_cpu),
            number(one.database_cpu),
            number(one.cpu),
            self._ratio(one),
            number(one.resident_bytes / 1e6),
        )

    def _ratio(self, one: Figures) -> str:
        for other in self.figures:
            comparable = other.scenario == one.scenario and other.server == self.reference != one.server
            if comparable and one.cpu > 0 and other.cpu > 0 and _whole(one) and _whole(other):
                return f"{number(other.cpu / one.cpu)} ×"  # noqa: RUF001  # a multiplication sign
        return ""


def _whole(one: Figures) -> bool:
    """Whether all that was sent has arrived: what a server has not done it has not done cheaply, nor dearly."""
    return one.notes.get("arrived", 0.0) >= one.notes.get("sent", 0.0) and not one.notes.get("undelivered")


def _remark(one: Figures) -> str:
    """What has arrived of what was sent, and other counts."""
    words = []
    if "sent" in one.notes:
        arrived = number(one.notes["arrived"]) if one.notes["arrived"] else "none"
        words.append(f"{arrived} of {number(one.notes['sent'])} arrived")
    words += [f"{name}: {number(value)}" for name, value in one.notes.items() if ", " in name]
    return "; ".join(words)


def number(value: float) -> str:
    """Three significant digits, thousands apart: `1 530`, `24.1`, `0.31`; a dash for what was not measured."""
    if math.isnan(value) or value == 0:
        return "–"  # noqa: RUF001  # a dash
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".replace(",", " ")


def machine() -> str:
    """What the run was made on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, Linux {platform.release().split('-')[0]}"


def write_into(page: Path, text: str, begin: str = BEGIN, end: str = END) -> None:
    """Put `text` between the markers of `page`. Raises ValueError when it has none."""
    content = page.read_text()
    if begin not in content or end not in content:
        raise ValueError(f"{page} has no place for the table: {begin} … {end}")
    before, rest = content.split(begin, 1)
    after = rest.split(end, 1)[1]
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


def _laps(one: Figures, titles: Mapping[str, str]) -> str:
    sizes = ", ".join(number(size) for note, size in one.notes.items() if note.startswith("MB after lap"))
    return f"- {titles[one.scenario]}, {one.server}: the largest process had {sizes} MB after each lap."


def _deliveries(one: Figures, titles: Mapping[str, str]) -> str:
    deliveries = one.notes["deliveries"]
    each = one.cpu * one.operations / deliveries if deliveries else math.nan
    late = one.notes["undelivered"]
    return (
        f"- {titles[one.scenario]}, {one.server}: {number(deliveries)} deliveries at {number(each)} CPU s per 1 000; "
        f"{number(late) + ' had not arrived' if late else 'all arrived'} within 20 s of the last send."
    )
