"""Time and chance are arguments that tests hold in their hands."""

import asyncio
import re

from homeserver.runtime.clock import Entropy, FakeClock, FakeEntropy, SystemClock


async def test_a_fake_clock_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(now_ms=1_000)
    before = clock.monotonic()
    await clock.advance(2.5)
    assert clock.now_ms() == 3_500
    assert clock.monotonic() == before + 2.5


async def test_sleepers_wake_in_the_order_of_their_deadlines_and_see_their_own_moment() -> None:
    clock = FakeClock(now_ms=0)
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.now_ms()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("late", 3))
        group.create_task(sleeper("early", 1))
        await asyncio.sleep(0)
        assert clock.sleepers == 2
        await clock.advance(10)
    assert woken == [("early", 1_000), ("late", 3_000)]


async def test_a_periodic_loop_ticks_as_often_as_in_real_time() -> None:
    clock = FakeClock()
    ticks = 0

    async def loop() -> None:
        nonlocal ticks
        while True:
            await clock.sleep(1)
            ticks += 1

    task = asyncio.ensure_future(loop())
    await asyncio.sleep(0)
    await clock.advance(5)
    task.cancel()
    assert ticks == 5


def test_the_system_clock_counts_milliseconds_since_1970() -> None:
    clock = SystemClock()
    assert 1_700_000_000_000 < clock.now_ms() < 4_000_000_000_000
    assert clock.monotonic() <= clock.monotonic()


def test_tokens_are_url_safe_and_never_the_same() -> None:
    entropy = Entropy()
    tokens = {entropy.token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", token) for token in tokens)
    assert re.fullmatch(r"[A-Z]{10}", entropy.device_id())
    assert re.fullmatch(r"[A-Za-z]{18}", entropy.room_localpart())
    assert re.fullmatch(r"[a-z0-9]{12}", entropy.localpart())


def test_every_character_of_an_alphabet_is_equally_likely() -> None:
    drawn = FakeEntropy(1).pick("abc", 30_000)
    assert all(9_500 < drawn.count(letter) < 10_500 for letter in "abc")


def test_fake_chance_repeats_itself_for_the_same_seed() -> None:
    one, same, other = FakeEntropy(7), FakeEntropy(7), FakeEntropy(8)
    assert [one.token(), one.device_id(), one.below(10)] == [same.token(), same.device_id(), same.below(10)]
    assert FakeEntropy(7).token() != other.token()
    assert 2.0 <= one.uniform(2.0, 3.0) < 3.0
