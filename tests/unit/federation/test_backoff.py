"""Who does not answer is left alone; a request of theirs ends that, once in a while."""

from __future__ import annotations

import pytest

from federation.ports import BackingOff
from federation.transport.backoff import FIRST_MS, HEARD_MS, Backoff
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import FakeClock, FakeEntropy

AWAY = ServerName("away.example")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def backoff(clock: FakeClock) -> Backoff:
    return Backoff(clock, FakeEntropy(), longest_ms=3_600_000)


def asked(backoff: Backoff) -> bool:
    """Whether the server may be asked now."""
    try:
        backoff.require(AWAY, long_retry=True)
    except BackingOff:
        return False
    return True


async def test_who_asks_us_is_tried_at_once(backoff: Backoff, clock: FakeClock) -> None:
    """FED-43: however short the outage was."""
    eased: list[ServerName] = []
    backoff.eased = eased.append
    backoff.failed(AWAY, "refused")
    assert not asked(backoff)
    await clock.advance(0.5)
    backoff.heard_from(AWAY)
    assert asked(backoff)
    assert eased == [AWAY]


async def test_who_can_speak_and_not_listen_is_not_tried_with_each_request(
    backoff: Backoff, clock: FakeClock
) -> None:
    """FED-43: each attempt that fails is a longer pause, and a request ends one once in a minute."""
    attempts, failures = 0, []
    for _ in range(600):
        backoff.heard_from(AWAY)
        if asked(backoff):
            attempts += 1
            backoff.failed(AWAY, "refused")
            pause = backoff.of(AWAY)
            assert pause is not None
            failures.append(pause.failures)
        await clock.advance(0.5)
    seconds = 300
    assert failures == list(range(1, attempts + 1))
    assert (
        attempts <= seconds * 1000 // HEARD_MS + 1 + 5
    )  # by requests, and by the pauses that end by themselves


async def test_what_failed_together_counts_once(backoff: Backoff, clock: FakeClock) -> None:
    """Several attempts that were under way when the server went away."""
    backoff.failed(AWAY, "refused")
    await clock.advance(0.1)
    backoff.failed(AWAY, "refused")
    pause = backoff.of(AWAY)
    assert pause is not None
    assert pause.failures == 1
    await clock.advance(FIRST_MS / 1000 * 1.2)
    assert asked(backoff)


async def test_a_server_that_answers_is_tried_at_once_after_its_next_outage(
    backoff: Backoff, clock: FakeClock
) -> None:
    """What was remembered of the last one is over."""
    for _ in range(3):
        backoff.failed(AWAY, "refused")
        backoff.heard_from(AWAY)
        assert asked(backoff)
        backoff.succeeded(AWAY)
        await clock.advance(1)
