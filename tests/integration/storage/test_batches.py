"""One row that is refused does not keep those of others from being written."""

import math
from collections.abc import Sequence

import psycopg
import pytest

from homeserver.storage.batches import write_apart


@pytest.mark.parametrize("bad", [set(), {0}, {999}, {3, 4, 500}, set(range(10))])
async def test_only_what_is_refused_is_lost(bad: set[int]) -> None:
    written: list[int] = []
    calls = 0

    async def write(rows: Sequence[int]) -> None:
        nonlocal calls
        calls += 1
        if bad.intersection(rows):
            raise psycopg.DataError
        written.extend(rows)

    refused = await write_apart(range(1000), write)
    assert {row for row, _ in refused} == bad
    assert sorted(written) == [number for number in range(1000) if number not in bad]
    assert calls <= 1 + 2 * len(bad) * math.ceil(math.log2(1000))


async def test_a_database_that_is_away_is_nobodys_fault() -> None:
    async def write(_: Sequence[int]) -> None:
        raise psycopg.OperationalError

    with pytest.raises(psycopg.OperationalError):
        await write_apart([1, 2], write)
    assert await write_apart([], write) == []
