"""Curves become a table and a chart."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from benchmarks.growth import chart
from benchmarks.growth.place import Cost, Figures
from benchmarks.growth.run import main, merged, sizes, table
from tests.support import balancers

FIGURES = Figures(
    "Rooms of a user",
    "rooms",
    {"idle sync": {100: Cost(0.2, 0.1), 1_000: Cost(0.3, 0.1)}, "first sync": {100: Cost(20.0, 12.5)}},
)


def test_a_chart_has_a_line_for_each_operation() -> None:
    root = ET.fromstring(chart.svg(FIGURES))
    lines = [each for each in root.iter() if each.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 1]
    assert "idle sync" in [each.text for each in root.iter()]


def test_a_table_has_a_column_for_each_size() -> None:
    assert table([FIGURES], "Here.").splitlines() == [
        "| Rooms of a user: CPU, ms | 100 | 1 000 | median of the last, ms |",
        "| --- | ---: | ---: | ---: |",
        "| idle sync | 0.1 | 0.1 | 0.3 |",
        "| first sync | 12.5 | - | 20 |",
        "",
        "Here.",
    ]
    assert sizes(1_000_000) == [100, 1_000, 10_000, 100_000, 1_000_000]


def test_what_is_measured_later_stands_beside_what_was_measured_before() -> None:
    """`--keep`: rooms and members are built in several runs."""
    later = replace(FIGURES, costs={"idle sync": {10_000: Cost(0.4, 0.2), 1_000: Cost(9.0, 9.0)}})
    both = merged(replace(FIGURES, costs=dict(FIGURES.costs)), later)
    assert both is not None
    assert list(both.costs["idle sync"].items()) == [
        (100, Cost(0.2, 0.1)),
        (1_000, Cost(9.0, 9.0)),
        (10_000, Cost(0.4, 0.2)),
    ]
    assert both.costs["first sync"] == FIGURES.costs["first sync"]
    assert merged(None, None) is None
    assert merged(FIGURES, None) is FIGURES


@pytest.mark.parametrize("arguments", [["--build"], ["--minutes", "5"], ["--only", "events", "--keep", "x"]])
def test_only_rooms_and_members_are_built_in_parts(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)


def test_the_documentation_has_the_configurations_that_the_tests_use() -> None:
    for program in balancers.PROGRAMS:
        assert "10.0.0.12:8008" in balancers.documented(program)
