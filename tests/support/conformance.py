"""Writes `docs/conformance.md`: every line of the checklist beside the tests that cite it.

Run `python -m tests.support.conformance` after adding an endpoint, or a test that cites a new line; contract tests
compare. It also takes what is served now out of `tests/contract/not_served.txt`, and never puts anything in.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from tests.support import spec_files
from tests.support.checklist import Section, citations, read_checklist
from tests.support.endpoints import declared, served, wanted
from tests.support.spec_files import REPOSITORY, spec_dir

PAGE = REPOSITORY / "docs" / "conformance.md"
NOT_SERVED = REPOSITORY / "tests" / "contract" / "not_served.txt"
NOT_YET = "not yet"

_HEAD = """\
# Conformance with Matrix v1.19

This page is generated: `python -m tests.support.conformance` writes it, and a test compares it.

Each row is one testable behaviour of the specification: *M* must, *S* should, *O* may. A row stands here with the test
files that cite its id in a test's name, docstring or comment (search them for the id), or with "{not_yet}". Beside these
tests, every response that any test receives is checked against the specification's own schemas.

The rows come from the project's checklist beside the specification's data, which is no part of this repository. To check
the page or to run the contract tests, point `MATRIX_SPEC_DIR` at that folder (by default `../shared/matrix-spec`).
"""


def render(folder: Path) -> str:
    """The whole page. `folder` holds the specification's data and the checklist."""
    sections = read_checklist(folder)
    cited = citations({line.id for section in sections for line in section.lines})
    parts = [_HEAD.format(not_yet=NOT_YET), _summary(sections, cited), _endpoints()]
    parts += [_section(section, cited) for section in sections]
    return "\n".join(parts)


def _summary(sections: list[Section], cited: dict[str, list[str]]) -> str:
    rows = []
    for section in sections:
        ids = [line.id for line in section.lines]
        rows.append(
            f"| {section.number} {section.title} | {len(ids)} | {sum(name in cited for name in ids)} |"
        )
    return "\n".join(["| section | lines | with a test |", "|---|---|---|", *rows, ""])


def _endpoints() -> str:
    waiting = len(not_served())
    return (
        f"Endpoints of the specification that are not served yet: **{waiting}**, listed in "
        "`tests/contract/not_served.txt`, a list that may only get shorter.\n"
    )


def not_served() -> set[tuple[str, str]]:
    """(method, path) of the specification's endpoints that stand in the list of those not served yet."""
    rows = NOT_SERVED.read_text(encoding="utf-8").splitlines()
    pairs = [row.split() for row in rows if row and not row.startswith("#")]
    return {(method, path) for method, path in pairs}


def shorten_list(folder: Path) -> None:
    """Takes the endpoints that are declared by now out of the list of those not served yet."""
    done = served(wanted(folder), declared())
    rows = NOT_SERVED.read_text(encoding="utf-8").splitlines()
    kept = [row for row in rows if row.startswith("#") or tuple(row.split()) not in done]
    NOT_SERVED.write_text("\n".join(kept) + "\n", encoding="utf-8")


def _section(section: Section, cited: dict[str, list[str]]) -> str:
    rows = [
        f"| {line.id} | {line.level} | {_cell(line.text)} | {_tests(cited.get(line.id, ()))} |"
        for line in section.lines
    ]
    head = [f"## {section.number} {section.title}", "", "| id | | what | tests |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _tests(files: Iterable[str]) -> str:
    return ", ".join(f"`{name.removeprefix('tests/')}`" for name in files) or NOT_YET


def main() -> int:
    """Writes the page; exit status 1 where the specification's data is absent."""
    folder = spec_dir()
    if folder is None:
        print(spec_files.ABSENT, file=sys.stderr)
        return 1
    shorten_list(folder)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(folder), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
