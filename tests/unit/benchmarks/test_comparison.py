"""One server with several numbers of processes: what is told of rounds that were measured in turns."""

import math

from benchmarks.comparison import comparison
from benchmarks.results import Round


def measured(server: str, cpu: float, operations: int = 1000) -> Round:
    return Round("send", server, operations, 2.0, [], cpu, 0.0, 300_000_000, {}, 150_000_000, 0.5)


def test_medians_of_rounds_against_the_first_server_in_the_same_round() -> None:
    rounds = [measured("one", 0.4), measured("one", 0.8), measured("one", 0.5)]
    rounds += [measured("two", 0.5), measured("two", 0.8), measured("two", 0.6)]
    rows = comparison(rounds, {"send": "Send"}).splitlines()
    assert rows[2] == "| Send | one | 500 | 0.500 |  | 0.400 to 0.800 | 0.250 | 150 |"
    assert rows[3] == "| Send | two | 500 | 0.600 | 1.20 | 0.500 to 0.800 | 0.250 | 150 |"


def test_a_round_without_operations_has_no_cost() -> None:
    assert math.isnan(measured("one", 0.4, operations=0).cpu)
