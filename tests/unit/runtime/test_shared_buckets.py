"""What several processes count together."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeserver.matrix.errors import LimitExceeded
from homeserver.runtime import shared_buckets
from homeserver.runtime.clock import FakeClock
from homeserver.runtime.shared_buckets import PLACES, SETS, SharedBuckets
from homeserver.web.rate_limit import LocalBuckets, Rate, RateLimiter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "limits"
    shared_buckets.begin(path, os.urandom(16))
    return path


@pytest.fixture
def two(path: Path) -> Iterator[tuple[SharedBuckets, SharedBuckets]]:
    both = SharedBuckets(path), SharedBuckets(path)
    yield both
    for each in both:
        each.close()
        each.close()


def test_what_one_notes_the_other_sees(two: tuple[SharedBuckets, SharedBuckets]) -> None:
    one, other = two
    assert other.get("a") is None
    one.put("a", 12.5)
    assert other.get("a") == 12.5
    other.put("a", 13.5)
    assert one.get("a") == 13.5
    one.forget("a")
    assert not other.get("a")
    assert len(one) == 1


def test_another_process_sees_it_too(path: Path) -> None:
    mine = SharedBuckets(path)
    code = (
        "import sys; from pathlib import Path; from homeserver.runtime.shared_buckets import SharedBuckets; "
    )
    code += "b = SharedBuckets(Path(sys.argv[1])); b.put('é', b.get('mine') + 1)"
    mine.put("mine", 7.0)
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    assert mine.get("é") == 8.0
    mine.close()


async def test_two_processes_allow_together_what_one_allows(two: tuple[SharedBuckets, SharedBuckets]) -> None:
    clock = FakeClock()
    limiters = [RateLimiter(clock, {"message": Rate(1, 10)}, buckets=each) for each in two]
    allowed = 0
    for turn in range(100):
        if allowed < 10:
            limiters[turn % 2].hit("message", "alice")
            allowed += 1
            continue
        with pytest.raises(LimitExceeded) as refused:
            limiters[turn % 2].hit("message", "alice")
        assert refused.value.fields["retry_after_ms"] == 1000
    await clock.advance(3)
    limiters[0].hit("message", "alice", cost=3)
    with pytest.raises(LimitExceeded):
        limiters[1].hit("message", "alice")


def test_when_it_is_full_the_least_gives_way_and_its_size_stays(path: Path) -> None:
    buckets, size = SharedBuckets(path), path.stat().st_size
    for number in range(2 * SETS * PLACES):
        buckets.put(f"user{number}", float(number + 1))
    assert path.stat().st_size == size
    newest = [number for number in range(2 * SETS * PLACES) if buckets.get(f"user{number}") is not None]
    assert len(newest) <= SETS * PLACES
    assert sum(newest) / len(newest) > SETS * PLACES, "mostly those that count longest are kept"
    buckets.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    acts=st.lists(st.tuples(st.sampled_from(["a", "b", "ü", "\ud800"]), st.floats(0.001, 1e6)), max_size=50)
)
def test_few_keys_are_kept_as_in_one_process(path: Path, acts: list[tuple[str, float]]) -> None:
    shared_buckets.begin(path, b"x" * 16)
    shared, local = SharedBuckets(path), LocalBuckets(FakeClock())
    for key, seconds in acts:
        shared.put(key, seconds)
        local.put(key, seconds)
    for key in ("a", "b", "ü", "\ud800", "never"):
        assert (shared.get(key) or 0) == pytest.approx(local.get(key) or 0, abs=2e-6)
    shared.close()
