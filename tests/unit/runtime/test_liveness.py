"""Who does not answer hangs, or only has not had its turn: told apart by what the kernel says of it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from homeserver.runtime.liveness import AT_START, AT_WORK, ClientTimeouts, Look, Silence
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


def look(at: float, *, computed: float = 0.0, queued: float = 0.0, state: str = "S") -> Look:
    return Look(at, computed, queued, state)


def looks_until_it_hangs(silence: Silence, looks: Iterator[Look]) -> int:
    for number, each in enumerate(looks):
        if silence.look(each):
            return number
        assert number < 10_000
    raise AssertionError("never")


def test_one_that_stands_still_hangs_after_ten_seconds() -> None:
    silence = Silence()
    silence.answered()
    assert looks_until_it_hangs(silence, (look(second, state="T") for second in range(10_000))) in {10, 11}


def test_one_that_computes_gets_longer() -> None:
    silence = Silence()
    silence.answered()
    looks = (look(second, computed=0.9 * second, state="R") for second in range(10_000))
    assert 25 <= looks_until_it_hangs(silence, looks) <= 31


@pytest.mark.parametrize("state", ["R", "D", "t"])
def test_one_that_waits_for_a_busy_machine_gets_minutes(state: str) -> None:
    """It stands in the queue for a processor, waits for a disk, or is held by a debugger."""
    silence = Silence()
    silence.answered()
    queued = 0.99 if state == "R" else 0.0
    looks = (
        look(second, computed=0.01 * second, queued=queued * second, state=state) for second in range(10_000)
    )
    assert looks_until_it_hangs(silence, looks) >= 90


def test_one_that_computes_on_a_busy_machine_is_judged_by_how_much_it_has_computed() -> None:
    silence = Silence()
    silence.answered()
    looks = (look(second, computed=0.1 * second, queued=0.9 * second, state="R") for second in range(10_000))
    assert 90 <= looks_until_it_hangs(silence, looks) <= 100


def test_nobody_hangs_because_whoever_asks_stood_still() -> None:
    """The laptop was closed for an hour, or the supervisor was stopped: that is one look, not an hour."""
    silence = Silence()
    silence.answered()
    assert not silence.look(look(0.0))
    assert not silence.look(look(3600.0))
    assert not silence.look(look(3601.0))
    silence.answered()
    assert not silence.look(look(7200.0))


def test_an_answer_begins_it_anew() -> None:
    silence = Silence()
    silence.answered()
    for second in range(1000):
        assert not silence.look(look(float(second)))
        if second % 9 == 8:
            assert silence.noticeable
            silence.answered()
            assert not silence.noticeable


def test_before_the_first_answer_there_is_more_patience_but_not_without_end() -> None:
    silence = Silence()
    hung = looks_until_it_hangs(silence, (look(second) for second in range(10_000)))
    assert AT_START.standing <= hung <= AT_START.standing + 1
    assert AT_START.standing > AT_WORK.standing


def test_where_the_kernel_does_not_tell_it_ends_all_the_same() -> None:
    silence = Silence()
    silence.answered()
    assert sum(not silence.look(None) for _ in range(1000)) < 130


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "while True: pass"])
def test_what_a_real_process_does_is_seen(code: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    patience = ClientTimeouts(standing=1e9, computing=1.0, waiting=1e9)
    began = Look.at_process(process.pid, time.monotonic())
    assert began is not None
    try:

        def computed() -> float:
            now = Look.at_process(process.pid, time.monotonic())
            assert now is not None
            return patience.used(began, now, 1e9)

        if "sleep" in code:
            time.sleep(1)
            assert computed() < 0.5
        else:
            until_sync(lambda: computed() > 0.5, 30)
    finally:
        process.kill()
        process.wait()
    assert Look.at_process(process.pid, 0.0) is None


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
