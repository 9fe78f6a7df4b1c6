"""Answers that clients do not take: of too many, those go first that have stood still longest."""

import pytest

from homeserver.runtime.clock import FakeClock
from homeserver.web.unsent import UnsentAnswers


class Receiver:
    def __init__(self, left: int) -> None:
        self.left = left
        self.aborted = False

    def unsent(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def unsent(clock: FakeClock) -> UnsentAnswers:
    return UnsentAnswers(clock, most=1_000)


async def test_what_fits_waits(unsent: UnsentAnswers) -> None:
    receivers = [Receiver(250) for _ in range(4)]
    for receiver in receivers:
        unsent.add(receiver, 250)
    assert unsent.size == 1_000
    assert not any(receiver.aborted for receiver in receivers)
    for receiver in receivers:
        unsent.remove(receiver)
        unsent.remove(receiver)
    assert unsent.size == 0


async def test_who_stands_still_longest_makes_room(unsent: UnsentAnswers, clock: FakeClock) -> None:
    still, slow, new = Receiver(400), Receiver(400), Receiver(400)
    unsent.add(slow, 400)
    await clock.advance(1)
    unsent.add(still, 400)
    await clock.advance(10)
    slow.left = 399
    unsent.add(new, 400)
    assert (still.aborted, slow.aborted, new.aborted) == (True, False, False)
    assert unsent.size == 800


async def test_what_is_too_large_alone_is_ended(unsent: UnsentAnswers) -> None:
    huge = Receiver(1_001)
    unsent.add(huge, 1_001)
    assert huge.aborted
    assert unsent.size == 0
