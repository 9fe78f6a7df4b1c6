"""`docs/conformance.md` says what is true today, and no test cites a line that does not exist."""

import re

import pytest

from tests.support import conformance, spec_files
from tests.support.checklist import citations, read_checklist, shorten

FOLDER = spec_files.spec_dir()
needs_spec = pytest.mark.skipif(FOLDER is None, reason=spec_files.ABSENT)


@needs_spec
def test_the_page_is_what_would_be_generated_now() -> None:
    assert FOLDER is not None
    written = conformance.PAGE.read_text(encoding="utf-8")
    assert written == conformance.render(FOLDER), "run: python -m tests.support.conformance"


@needs_spec
def test_every_line_of_the_checklist_is_read() -> None:
    assert FOLDER is not None
    lines = [line.id for section in read_checklist(FOLDER) for line in section.lines]
    written = (FOLDER / "CHECKLIST.md").read_text(encoding="utf-8").splitlines()
    assert (
        len(lines)
        == len(set(lines))
        == sum(re.match(r"- \S+-\d\d ", row) is not None for row in written)
        > 300
    )
    assert {"API-01", "SYNC-24", "FED-44", "CRY-03", "E2E-03", "3PI-01"} <= set(lines)


@needs_spec
def test_no_test_cites_a_line_that_does_not_exist() -> None:
    assert FOLDER is not None
    known = {line.id for section in read_checklist(FOLDER) for line in section.lines}
    unknown = {name: files for name, files in citations(known).items() if name not in known}
    assert unknown == {}


def test_a_line_is_shortened_to_its_first_sentence() -> None:
    assert shorten("No token: 401 `M_MISSING_TOKEN`; else 401. CS Using access tokens") == (
        "No token: 401 `M_MISSING_TOKEN`; else 401"
    )
    assert shorten("Default version is 12. +1.16 RV Complete list") == "Default version is 12"
    assert shorten("word " * 40).endswith("word …")
