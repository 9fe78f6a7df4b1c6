"""Over how many processes work is spread."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from homeserver.runtime import shared_loads
from homeserver.runtime.shared_loads import LIVES, Load, SharedLoads
from homeserver.runtime.spreading import (
    CONNECTIONS,
    FULL_FOR,
    LOOSE_FOR,
    MachineTime,
    OwnTime,
    Spreading,
)


def four(*busy: float, connections: int = 10) -> list[Load]:
    return [Load(place, 1, part, connections, place == 0, 1) for place, part in enumerate(busy)]


def after(spreading: Spreading, living: list[Load], spare: float, looks: int) -> int:
    for _ in range(looks):
        spreading.decide(living, spare)
    return spreading.wanted


def test_one_serves_until_it_is_full() -> None:
    spreading = Spreading()
    assert after(spreading, four(0.6, 0, 0, 0), 3.0, 100) == 1
    assert after(spreading, four(0.9, 0, 0, 0), 3.0, FULL_FOR - 1) == 1
    assert after(spreading, four(0.9, 0, 0, 0), 3.0, 1) == 2


def test_no_other_helps_where_no_processor_is_free() -> None:
    assert after(Spreading(), four(1, 0, 0, 0), 0.3, 100) == 1


def test_there_are_never_more_than_live() -> None:
    spreading = Spreading()
    assert after(spreading, four(1, 1, 1), 3.0, 100) == 3
    assert after(spreading, four(1), 3.0, 100) == 1


def test_fewer_serve_when_they_would_have_done_for_a_while() -> None:
    spreading = Spreading()
    assert after(spreading, four(1, 1, 0, 0), 3.0, FULL_FOR) == 2
    living = four(0.2, 0.2, 0, 0)
    assert after(spreading, living, 3.0, LOOSE_FOR - 1) == 2
    spreading.decide(four(0.5, 0.5, 0, 0), 3.0)  # a busy moment in between
    assert after(spreading, living, 3.0, LOOSE_FOR - 1) == 2
    assert after(spreading, living, 3.0, 1) == 1


def test_what_sharing_costs_does_not_swing_it_back() -> None:
    """One that is just full becomes two that are half full, each with more to do than half of it: they stay two."""
    spreading = Spreading()
    after(spreading, four(0.72, 0, 0, 0), 3.0, FULL_FOR)
    assert after(spreading, four(0.45, 0.45, 0, 0), 3.0, 1000) == 2


def test_many_connections_need_several_whatever_they_do() -> None:
    spreading = Spreading()
    living = four(0, 0, 0, 0, connections=CONNECTIONS // 2)
    assert after(spreading, living, 0.0, 5) == 3
    assert after(spreading, living, 0.0, 1000) == 3


def test_who_takes_over_goes_on_from_what_held() -> None:
    spreading = Spreading()
    spreading.follow(3)
    assert spreading.decide(four(0.5, 0.5, 0.5, 0), 3.0) == 3


@contextmanager
def three(path: Path) -> Iterator[list[SharedLoads]]:
    made = [SharedLoads(path, place, 3) for place in range(3)]
    yield made
    for each in made:
        each.close()
        each.close()


def test_each_sees_what_the_others_say(tmp_path: Path) -> None:
    path = tmp_path / "loads"
    shared_loads.begin(path)
    with three(path) as (first, second, third):
        first.note(1_000_000, 0.25, leads=False, wanted=1)
        second.note(1_000_001, 0.5, leads=True, wanted=2)
        second.count(7)
        assert third.living(1_000_100) == [
            Load(1, 1_000_001, 0.5, 7, True, 2),
            Load(0, 1_000_000, 0.25, 0, False, 1),
        ]


def test_who_is_silent_or_has_left_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "loads"
    with three(path) as (first, second, _):
        first.note(1_000_000, 0, leads=False, wanted=1)
        second.note(1_500_000, 0, leads=False, wanted=1)
        late = 1_000_000 + int(LIVES * 1e6) + 1
        assert [load.place for load in second.living(late)] == [1]
        second.leave()
        assert second.living(late) == []
    shared_loads.begin(path)
    with three(path) as (first, _, _):
        assert first.living(1_500_000) == []


@pytest.mark.parametrize("path", ["/proc/self/schedstat", "/proc/self/not there"])
def test_the_kernel_says_how_busy_this_process_and_the_machine_are(path: str) -> None:
    own, machine = OwnTime(0.0, path=path), MachineTime()
    sum(range(300_000))
    assert 0 < own.look(1e-3) <= 1
    assert own.look(1e6) < 1
    assert 0 <= machine.look() <= len(os.sched_getaffinity(0))
    own.close()
    own.close()
