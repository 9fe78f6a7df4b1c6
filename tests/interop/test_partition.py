"""Servers in one room, over a net that fails and with servers that are killed: afterwards all know the same.

Two Atriums in a short play; two Atriums and a Synapse in a long one, by hand: a seed says what happens, and
`ATRIUM_TEST_SEEDS=1-20` says which are played; each prints its figures.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.interop.partitioned import played, played_among_ourselves
from tests.support.federation import Federation

SEEDS = os.environ.get("ATRIUM_TEST_SEEDS", "")
SHORT = 30
"""Steps of the play in seconds."""
SHORT_SEED = 37
"""Room version 12; servers that are cut off and joined up again, lost requests, and one that is killed."""
pytestmark = [pytest.mark.slow, pytest.mark.reliability]


def seeds() -> list[int]:
    """`3`, or `1-20`."""
    first, _, last = (SEEDS or "1").partition("-")
    return list(range(int(first), int(last or first) + 1))


@pytest.mark.interop
@pytest.mark.skipif(not SEEDS, reason="minutes a seed: ATRIUM_TEST_SEEDS=1-5 says which are to be played")
@pytest.mark.parametrize("seed", seeds())
async def test_partitions_heal(federation: Federation, seed: int, tmp_path: Path) -> None:
    """FED-10, FED-13, FED-14, FED-43: the same state and events, nothing acknowledged lost, no gap for who syncs."""
    told = await played(federation, tmp_path, seed)
    print(f"\nseed {seed}: {told}")


@pytest.mark.timeout(200)
async def test_partitions_among_ourselves_heal(federation: Federation) -> None:
    """FED-10, FED-13, FED-14, FED-43: the same, in seconds."""
    print(f"\n{await played_among_ourselves(federation, SHORT_SEED, SHORT)}")
