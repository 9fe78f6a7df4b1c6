"""The list of what the specification demands (`CHECKLIST.md` beside its data), and which tests cite which line.

A line is cited by its id, such as `SYNC-04`, in a test's name (`test_sync_04_...`), docstring or comment.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.spec_files import REPOSITORY

_SECTION = re.compile(r"^## (?P<number>\d+) (?P<title>.+)$")
_LINE = re.compile(r"^- (?P<id>\d?[A-Z][A-Z0-9]*-\d{2}) (?P<level>[MSO]) (?P<text>.+)$")
# Where a line has its words from, at its end: "CS Rate limiting", "op:sync", "V:identifiers", "+1.16"
_SOURCE = re.compile(r"^(?:CS|SS|AS|PG|IS|RV|APP|MSC|op:|V:|data |schemas/|endpoints\.tsv|\+1\.)")
_LONGEST = 160

# Tests of the tests' own tools cite the rules these tools check; that says nothing about the server.
_ABOUT_TOOLS = frozenset(
    f"tests/contract/test_{name}.py" for name in ("spec", "client", "conformance", "proxy")
)
_TEST_FILES = ("test_*.py", "*.test.*js", "*.test.ts")


@dataclass(frozen=True)
class Line:
    """One testable behaviour: its id, level (M must, S should, O optional) and what it says, in short."""

    id: str
    level: str
    text: str


@dataclass(frozen=True)
class Section:
    """A numbered section of the checklist with its lines."""

    number: int
    title: str
    lines: tuple[Line, ...]


def read_checklist(folder: Path) -> list[Section]:
    """The sections of `folder`/CHECKLIST.md that hold lines to be tested."""
    sections: list[Section] = []
    for row in (folder / "CHECKLIST.md").read_text(encoding="utf-8").splitlines():
        if heading := _SECTION.match(row):
            sections.append(Section(int(heading["number"]), heading["title"], ()))
        elif line := _LINE.match(row):
            last = sections[-1]
            new = Line(line["id"], line["level"], shorten(line["text"]))
            sections[-1] = Section(last.number, last.title, (*last.lines, new))
    return [section for section in sections if section.lines]


def shorten(text: str) -> str:
    """The first sentence of a line without its sources, cut between words when still long."""
    said = [part for part in re.split(r"(?<=\.) ", text) if not _SOURCE.match(part)] or [text]
    first = said[0].rstrip(".")
    if len(first) <= _LONGEST:
        return first
    return first[:_LONGEST].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def citations(ids: set[str]) -> dict[str, list[str]]:
    """Id -> the test files that cite it, as paths from the repository's root, in order."""
    prefixes = "|".join(sorted({re.escape(name.partition("-")[0]) for name in ids}, key=len, reverse=True))
    cited = re.compile(rf"\b({prefixes})-(\d\d)\b|test_((?i:{prefixes}))_(\d\d)(?=_)")
    found: dict[str, list[str]] = defaultdict(list)
    for path in test_files():
        name = path.relative_to(REPOSITORY).as_posix()
        matches = cited.finditer(path.read_text(encoding="utf-8"))
        for line in sorted({f"{m[1] or m[3].upper()}-{m[2] or m[4]}" for m in matches}):
            found[line].append(name)
    return dict(found)


def test_files() -> Iterator[Path]:
    """The files of tests that look at the server."""
    paths = {path for pattern in _TEST_FILES for path in (REPOSITORY / "tests").rglob(pattern)}
    for path in sorted(paths):
        name = path.relative_to(REPOSITORY).as_posix()
        if name not in _ABOUT_TOOLS and "node_modules" not in path.parts:
            yield path
