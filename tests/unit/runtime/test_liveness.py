"""Who does not answer hangs, or only has not had its turn: told apart by what the kernel says of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from homeserver.runtime.liveness import WHEN_SERVING, WHEN_STARTING, HangLimits, ProcessSample, UnansweredTime
from homeserver.runtime.worker import Order, Question, Siblings
from tests.support.waiting import until_sync


class FixedClock:
    """A clock whose seconds a test sets."""

    seconds = 0.0

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def look(at: float, *, computed: float = 0.0, queued: float = 0.0, state: str = "S") -> ProcessSample:
    return ProcessSample(at, computed, queued, state)


def looks_until_it_hangs(unanswered: UnansweredTime, looks: Iterator[ProcessSample]) -> int:
    for number, each in enumerate(looks):
        if unanswered.sample(each):
            return number
        assert number < 10_000
    raise AssertionError("never")


def test_one_that_stands_still_hangs_after_ten_seconds() -> None:
    unanswered = UnansweredTime()
    unanswered.answered()
    assert looks_until_it_hangs(unanswered, (look(second, state="T") for second in range(10_000))) in {10, 11}


def test_one_that_computes_gets_longer() -> None:
    unanswered = UnansweredTime()
    unanswered.answered()
    looks = (look(second, computed=0.9 * second, state="R") for second in range(10_000))
    assert 25 <= looks_until_it_hangs(unanswered, looks) <= 31


@pytest.mark.parametrize("state", ["R", "D", "t"])
def test_one_that_waits_for_a_busy_machine_gets_minutes(state: str) -> None:
    """It stands in the queue for a processor, waits for a disk, or is held by a debugger."""
    unanswered = UnansweredTime()
    unanswered.answered()
    queued = 0.99 if state == "R" else 0.0
    looks = (
        look(second, computed=0.01 * second, queued=queued * second, state=state) for second in range(10_000)
    )
    assert looks_until_it_hangs(unanswered, looks) >= 90


def test_one_that_computes_on_a_busy_machine_is_judged_by_how_much_it_has_computed() -> None:
    unanswered = UnansweredTime()
    unanswered.answered()
    looks = (look(second, computed=0.1 * second, queued=0.9 * second, state="R") for second in range(10_000))
    assert 90 <= looks_until_it_hangs(unanswered, looks) <= 100


def test_nobody_hangs_because_whoever_asks_stood_still() -> None:
    """The laptop was closed for an hour, or the supervisor was stopped: that is one look, not an hour."""
    unanswered = UnansweredTime()
    unanswered.answered()
    assert not unanswered.sample(look(0.0))
    assert not unanswered.sample(look(3600.0))
    assert not unanswered.sample(look(3601.0))
    unanswered.answered()
    assert not unanswered.sample(look(7200.0))


def test_an_answer_begins_it_anew() -> None:
    unanswered = UnansweredTime()
    unanswered.answered()
    for second in range(1000):
        assert not unanswered.sample(look(float(second)))
        if second % 9 == 8:
            assert unanswered.noticeable
            unanswered.answered()
            assert not unanswered.noticeable


def test_before_the_first_answer_there_is_more_patience_but_not_without_end() -> None:
    unanswered = UnansweredTime()
    hung = looks_until_it_hangs(unanswered, (look(second) for second in range(10_000)))
    assert WHEN_STARTING.standing <= hung <= WHEN_STARTING.standing + 1
    assert WHEN_STARTING.standing > WHEN_SERVING.standing


def test_where_the_kernel_does_not_tell_it_ends_all_the_same() -> None:
    unanswered = UnansweredTime()
    unanswered.answered()
    assert sum(not unanswered.sample(None) for _ in range(1000)) < 130


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "while True: pass"])
def test_what_a_real_process_does_is_seen(code: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    limits = HangLimits(standing=1e9, computing=1.0, waiting=1e9)
    began = ProcessSample.of_process(process.pid, time.monotonic())
    assert began is not None
    try:

        def computed() -> float:
            now = ProcessSample.of_process(process.pid, time.monotonic())
            assert now is not None
            return limits.used(began, now, 1e9)

        if "sleep" in code:
            time.sleep(1)
            assert computed() < 0.5
        else:
            until_sync(lambda: computed() > 0.5, 30)
    finally:
        process.kill()
        process.wait()
    assert ProcessSample.of_process(process.pid, 0.0) is None


def test_a_worker_knows_what_it_was_told_of_the_others_and_that_nobody_asks_any_more() -> None:
    clock = FixedClock()
    siblings = Siblings(clock)
    assert siblings.trouble() is None
    siblings.told(Question(processes=3, silent=1).to_line())
    assert siblings.trouble() == "1 of 3 processes do not answer"
    siblings.told(b"half a li\n")
    siblings.told(Question(processes=3, silent=0).to_line())
    clock.seconds = 14.0
    assert siblings.trouble() is None
    clock.seconds = 16.0
    assert siblings.trouble() == "the process that starts the others does not answer"


def test_an_order_leaves_what_follows_it_in_the_pipe() -> None:
    reading, writing = os.pipe()
    try:
        order = Order(None, worker=3, parent=1)  # type: ignore[arg-type]  # of no matter here
        os.write(writing, order.to_bytes() + b"{}\n")
        assert Order.read(reading) == order
        assert os.read(reading, 100) == b"{}\n"
        os.close(writing)
        with pytest.raises(EOFError):
            Order.read(reading)
    finally:
        os.close(reading)
