"""CHECKLIST API-08: how often somebody may do something."""

import pytest

from homeserver.matrix.errors import LimitExceeded
from homeserver.runtime.clock import FakeClock
from homeserver.web.rate_limit import Rate, RateLimiter


def allowed(limiter: RateLimiter, key: str, times: int = 100, *, guest: bool = False) -> int:
    for count in range(times):
        try:
            limiter.hit("message", key, guest=guest)
        except LimitExceeded:
            return count
    return times


async def test_a_burst_is_allowed_and_then_the_rate() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, {"message": Rate(2, 10)})
    assert allowed(limiter, "alice") == 10
    await clock.advance(1)
    assert allowed(limiter, "alice") == 2
    await clock.advance(1000)
    assert allowed(limiter, "alice") == 10


async def test_a_refusal_says_exactly_when_to_come_back() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, {"message": Rate(0.5, 1)})
    limiter.hit("message", "alice")
    with pytest.raises(LimitExceeded) as refused:
        limiter.hit("message", "alice")
    assert refused.value.headers["Retry-After"] == "2"
    assert refused.value.fields["retry_after_ms"] == 2000
    await clock.advance(1.999)
    assert allowed(limiter, "alice") == 0
    await clock.advance(0.001)
    assert allowed(limiter, "alice") == 1


async def test_a_refused_act_does_not_count() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, {"message": Rate(1, 1)})
    allowed(limiter, "alice")
    for _ in range(10):
        assert allowed(limiter, "alice") == 0
    await clock.advance(1)
    assert allowed(limiter, "alice") == 1


def test_each_key_and_class_is_counted_by_itself() -> None:
    limiter = RateLimiter(FakeClock(), {"message": Rate(1, 3), "join": Rate(1, 1)})
    limiter.hit("join", "alice")
    assert (allowed(limiter, "alice"), allowed(limiter, "bob")) == (3, 3)


def test_what_has_no_rate_is_not_limited() -> None:
    limiter = RateLimiter(FakeClock(), {})
    assert allowed(limiter, "alice", 1000) == 1000
    assert not limiter.would_refuse("message", "alice")
    assert len(limiter) == 0


def test_a_guest_gets_a_share() -> None:
    limiter = RateLimiter(FakeClock(), {"message": Rate(1, 10)}, guest_factor=0.2)
    assert allowed(limiter, "guest", guest=True) == 2
    assert (
        allowed(RateLimiter(FakeClock(), {"message": Rate(1, 1)}, guest_factor=0.2), "guest", guest=True) == 1
    )


def test_failures_can_be_counted_alone() -> None:
    limiter = RateLimiter(FakeClock(), {"message": Rate(1, 1)})
    for _ in range(5):
        assert not limiter.would_refuse("message", "alice")
    limiter.hit("message", "alice")
    assert limiter.would_refuse("message", "alice")
    limiter.reset("message", "alice")
    assert not limiter.would_refuse("message", "alice")


async def test_memory_is_bounded_and_the_busiest_are_remembered() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, {"message": Rate(1, 5)}, max_keys=100)
    allowed(limiter, "attacker")
    for number in range(1000):
        limiter.hit("message", f"user{number}")
        assert len(limiter) <= 100
    assert allowed(limiter, "attacker") == 0
    await clock.advance(60)
    for number in range(101):
        limiter.hit("message", f"later{number}")
    assert len(limiter) <= 100


def test_addresses_of_one_network_share_a_limit() -> None:
    limiter = RateLimiter(FakeClock(), {"login": Rate(0.01, 10)})
    for number in range(10):
        limiter.hit_address("login", f"2001:db8::{number}")
    with pytest.raises(LimitExceeded):
        limiter.hit_address("login", "2001:db8::ffff")
    limiter.hit_address("login", "2001:db8:0:1::1")
    for spelling in ("192.0.2.1", "::ffff:192.0.2.1") * 5:
        limiter.hit_address("login", spelling)
    with pytest.raises(LimitExceeded):
        limiter.hit_address("login", "192.0.2.1")
    limiter.hit_address("unlimited", "192.0.2.1")


def test_hosts_share_the_rate_but_not_what_may_be_done_at_once() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, {"message": Rate(10, 5)})
    limiter.share_among(2.0)
    for _ in range(5):
        limiter.hit("message", "@a:b")
    with pytest.raises(LimitExceeded) as refused:
        limiter.hit("message", "@a:b")
    assert refused.value.fields["retry_after_ms"] == 200, "half of ten a second"
    assert limiter.would_refuse("message", "@a:b")
    limiter.share_among(1.0)  # the other one has gone
    with pytest.raises(LimitExceeded) as refused:
        limiter.hit("message", "@a:b")
    assert refused.value.fields["retry_after_ms"] == 100
    limiter.share_among(0.2)
    assert limiter.hosts == 1.0
