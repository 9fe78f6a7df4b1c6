"""Two Atriums and a Synapse in one room, over a net that fails and with servers that are killed: afterwards all know the same.

A seed says what happens: `ATRIUM_TEST_SEEDS=1-20` says which are played, by hand; each prints its figures.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.interop.partitioned import played
from tests.support.federation import Federation

SEEDS = os.environ.get("ATRIUM_TEST_SEEDS", "")
pytestmark = [
    *(pytest.mark.interop, pytest.mark.slow, pytest.mark.reliability, pytest.mark.timeout(290)),
    pytest.mark.skipif(not SEEDS, reason="minutes a seed: ATRIUM_TEST_SEEDS=1-5 says which are to be played"),
]


def seeds() -> list[int]:
    """`3`, or `1-20`."""
    first, _, last = (SEEDS or "1").partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.mark.parametrize("seed", seeds())
async def test_partitions_heal(federation: Federation, seed: int, tmp_path: Path) -> None:
    """FED-10, FED-13, FED-14, FED-43: the same state and events, nothing acknowledged lost, no gap for who syncs."""
    told = await played(federation, tmp_path, seed)
    print(f"\nseed {seed}: {told}")
