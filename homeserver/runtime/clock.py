"""Time and chance, as arguments.

Owns the only calls to the system's clock and random source. Everything else is handed a `Clock` and an
`Entropy`, so that a test moves time itself and gets the same identifiers on every run.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import heapq
import itertools
import secrets
import string
import time
from typing import Protocol, final

from typing_extensions import override

_LETTERS = string.ascii_letters
_LOCALPART = string.ascii_lowercase + string.digits


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """The time of day in milliseconds since 1970, as `origin_server_ts` counts it."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. For durations and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least so many seconds of this clock's time."""
        ...


@final
class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


@final
class FakeClock:
    """A clock that stands still until a test moves it with `advance`.

    Sleepers wake in the order of their deadlines; each gets the chance to run before the next is woken, so
    that a periodic loop ticks as often as it would in real time.
    """

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._monotonic = 1_000.0
        self._began_ms = now_ms - 1_000_000
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return self._began_ms + int(round(self._monotonic * 1000, 3))

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`; returns only after enough `advance`."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), waiter))
        await waiter

    @property
    def sleepers(self) -> int:
        """How many sleeps are waiting; a test awaits this before it advances."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move time forward, waking each sleeper at its own moment."""
        until = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            deadline, _, waiter = heapq.heappop(self._sleepers)
            self._monotonic = deadline
            if not waiter.done():
                waiter.set_result(None)
            await self._settle()
        self._monotonic = until
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        # A woken task may pass through a few more ready callbacks before it sleeps again.
        for _ in range(8):
            await asyncio.sleep(0)


class Entropy:
    """Where chance comes from; this one is the system's cryptographic source."""

    def bytes(self, count: int) -> bytes:
        """So many unguessable bytes."""
        return secrets.token_bytes(count)

    def token(self, count: int = 32) -> str:
        """URL-safe unpadded base64 of `count` unguessable bytes."""
        return base64.urlsafe_b64encode(self.bytes(count)).rstrip(b"=").decode("ascii")

    def letters(self, count: int) -> str:
        """So many ASCII letters: opaque identifiers that people read aloud (device ids, key ids)."""
        return self.pick(_LETTERS, count)

    def localpart(self, count: int = 12) -> str:
        """A local part for a user, room or alias id: lower-case letters and digits."""
        return self.pick(_LOCALPART, count)

    def device_id(self) -> str:
        """Ten capital letters, as clients show them to people."""
        return self.pick(string.ascii_uppercase, 10)

    def room_localpart(self) -> str:
        """18 letters: the opaque part of a room id in room versions before 12."""
        return self.pick(_LETTERS, 18)

    def pick(self, alphabet: str, count: int) -> str:
        """So many characters of an alphabet, each equally likely."""
        size = len(alphabet)
        limit = 256 - 256 % size  # beyond it, the first characters would be likelier
        chosen: list[str] = []
        while len(chosen) < count:
            chosen += [alphabet[b % size] for b in self.bytes(2 * count) if b < limit]
        return "".join(chosen[:count])

    def below(self, limit: int) -> int:
        """A whole number from 0 up to, not including, `limit`."""
        return int.from_bytes(self.bytes(16), "big") % limit

    def uniform(self, low: float, high: float) -> float:
        """A number between two others: the jitter of a back-off."""
        return low + (high - low) * (int.from_bytes(self.bytes(7), "big") / (1 << 56))


@final
class FakeEntropy(Entropy):
    """The same sequence for the same seed: for tests only."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._drawn = itertools.count()

    @override
    def bytes(self, count: int) -> bytes:
        """See `Entropy.bytes`; repeatable."""
        draw = next(self._drawn)
        return hashlib.shake_256(f"{self._seed}:{draw}".encode()).digest(count)
