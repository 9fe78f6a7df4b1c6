"""Percentiles, windows, and what several rounds say together."""

import math

import pytest

from benchmarks.meter import Meter, percentile
from benchmarks.procfs import Watched
from benchmarks.results import Round, summarise


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([1.0, 2.0], 50, 1.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        (list(range(1, 101)), 50, 50),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 101)), 100, 100),
        (list(range(1, 1001)), 99, 990),
        ([1.0] * 99 + [100.0], 99, 1.0),
        ([1.0] * 98 + [100.0] * 2, 99, 100.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 50))


async def test_windows_add_up_and_what_lies_between_is_not_measured() -> None:
    meter = Meter(Watched(), seconds=10)
    async with meter.window():
        meter.record(0.5)
    first = meter.open_seconds
    meter.open_seconds += 100
    async with meter.window():
        meter.record(0.25)
    assert meter.operations == 2
    assert meter.open_seconds > 100 + first
    assert meter.latencies == [0.5, 0.25]
    assert not meter.wants_more


def measured(operations: int, seconds: float, latency: float, cpu: tuple[float, float]) -> Round:
    return Round(
        "send", "atrium", operations, seconds, [latency] * operations, *cpu, 1000, {"deliveries": 5.0}
    )


def test_rounds_are_summed_up_by_their_weight_not_averaged() -> None:
    figures = summarise([measured(100, 1.0, 0.010, (0.5, 0.1)), measured(300, 1.0, 0.002, (0.5, 0.3))])
    assert figures.operations == 400
    assert figures.per_second == pytest.approx(200)
    assert figures.p50 == pytest.approx(2)
    assert figures.p99 == pytest.approx(10)
    assert figures.server_cpu == pytest.approx(2.5)
    assert figures.database_cpu == pytest.approx(1.0)
    assert figures.cpu == pytest.approx(3.5)
    assert figures.notes == {"deliveries": 10.0}


def test_a_round_without_operations_has_no_figures_but_does_not_fail() -> None:
    figures = summarise([measured(0, 0.0, 0.0, (0.1, 0.0))])
    assert math.isnan(figures.cpu)
    assert math.isnan(figures.per_second)
