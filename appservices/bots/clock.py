"""Time and chance of bots: asked for here and nowhere else, so that tests move time themselves."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Protocol

from typing_extensions import override


class Clock(Protocol):
    """What time it is."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after so many seconds."""
        ...


class SystemClock(Clock):
    """The clock of the machine."""

    @override
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    @override
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def token(count: int = 32) -> str:
    """A secret of so many random bytes, as text that can stand in an address."""
    return secrets.token_urlsafe(count)


def random_bytes(count: int) -> bytes:
    return secrets.token_bytes(count)
