"""The table: readable numbers, ratios to the reference, a place in a page."""

import json
import math
from pathlib import Path

import pytest

from benchmarks.report import BEGIN, END, Report, number, write_into
from benchmarks.results import Figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1530.4, "1 530"),
        (123456.0, "123 456"),
        (24.12, "24.1"),
        (0.3149, "0.315"),
        (0.00123, "0.00123"),
        (100.0, "100"),
        (0.0, "\u2013"),
        (math.nan, "\u2013"),
    ],
)
def test_numbers_have_three_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def figures(server: str, cpu: float, notes: dict[str, float] | None = None) -> Figures:
    return Figures("send", server, 1000, 500.0, 1.0, 2.0, cpu, cpu, 50_000_000, notes or {})


def test_the_table_tells_how_much_less_than_the_reference() -> None:
    report = Report([figures("atrium", 0.5), figures("synapse", 10.0)], {"send": "Send"}, ["2 rounds"])
    rows = report.markdown().splitlines()
    assert rows[2] == "| Send | atrium | 500 | 1.00 | 2.00 | 0.500 | 0.500 | 1.00 | 20.0 \u00d7 | 50.0 |"
    assert rows[3] == "| Send | synapse | 500 | 1.00 | 2.00 | 10.0 | 10.0 | 20.0 |  | 50.0 |"
    assert "- 2 rounds" in rows


@pytest.mark.parametrize(
    ("ours", "theirs", "compared"),
    [
        ({"sent": 600.0, "arrived": 600.0}, {"sent": 600.0, "arrived": 600.0}, True),
        ({"sent": 600.0, "arrived": 600.0}, {"sent": 600.0, "arrived": 0.0}, False),
        ({"sent": 600.0, "arrived": 599.0}, {"sent": 600.0, "arrived": 600.0}, False),
        ({"deliveries": 9.0, "undelivered": 0.0}, {"deliveries": 9.0, "undelivered": 1.0}, False),
    ],
)
def test_what_was_not_done_is_not_compared(
    ours: dict[str, float], theirs: dict[str, float], compared: bool
) -> None:
    """A server that took nothing in has spent its CPU on something else."""
    report = Report([figures("atrium", 0.5, ours), figures("synapse", 10.0, theirs)], {"send": "Send"}, [])
    text = report.markdown()
    assert ("20.0 \u00d7" in text) is compared
    assert ("synapse: none of 600 arrived" in text) is (theirs.get("arrived") == 0)


def test_deliveries_are_told_below_the_table() -> None:
    notes = {"deliveries": 50_000.0, "undelivered": 0.0}
    text = Report([figures("atrium", 0.5, notes)], {"send": "Fan-out"}, []).markdown()
    assert "Fan-out, atrium: 50 000 deliveries at 0.0200 CPU s per 1 000; all arrived" in text


def test_the_json_carries_what_the_table_rounds() -> None:
    read = json.loads(Report([figures("atrium", 0.123456)], {"send": "Send"}, ["how"]).json())
    assert read["figures"][0]["cpu"] == pytest.approx(0.246912)
    assert read["about"] == ["how"]


def test_the_table_replaces_what_stands_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, "new")
    assert page.read_text() == f"# Before\n{BEGIN}\n\nnew\n{END}\nafter\n"


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="no place for the table"):
        write_into(page, "new")
    assert page.read_text() == "nothing here"


def test_what_did_not_arrive_is_told_below_the_table() -> None:
    notes = {"sent": 1000.0, "arrived": 660.0, "idle without them, ms a second": 1.5}
    text = Report([figures("synapse", 10.0, notes)], {"send": "From another server"}, []).markdown()
    assert (
        "- From another server, synapse: 660 of 1 000 arrived; idle without them, ms a second: 1.50."
        in text.splitlines()
    )
