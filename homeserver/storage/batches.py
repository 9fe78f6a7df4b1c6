"""Rows of many people that are written together: one that the database refuses must not keep the others from being written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import psycopg

Row = TypeVar("Row")


async def write_apart(
    rows: Sequence[Row], write: Callable[[Sequence[Row]], Awaitable[None]]
) -> list[tuple[Row, psycopg.Error]]:
    """Write rows; where they are refused, halves of them, until those that are refused are alone.

    `write` writes rows in a transaction of its own. Returns the refused rows, each with the reason (a value that no column holds, a
    constraint). With n rows of which k are refused, `write` is called 1 + 2k·log2(n) times at most. Raises what `write` does
    otherwise; then some rows may be written.
    """
    refused: list[tuple[Row, psycopg.Error]] = []
    waiting: list[Sequence[Row]] = [rows] if rows else []
    while waiting:
        some = waiting.pop()
        try:
            await write(some)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            if len(some) == 1:
                refused.append((some[0], error))
            else:
                middle = len(some) // 2
                waiting += (some[middle:], some[:middle])
    return refused
