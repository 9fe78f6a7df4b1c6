"""Waiting for what can only be seen from outside: a row in the database, an answer of another process."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[object]], *, within: float = 60.0, every: float = 0.02) -> None:
    """Returns when the condition holds; TimeoutError after `within` seconds."""
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110  # nobody here could set an event
            await asyncio.sleep(every)


def until_sync(holds: Callable[[], object], within: float = 60.0, every: float = 0.02) -> None:
    """As `until`, for what blocks; AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)
