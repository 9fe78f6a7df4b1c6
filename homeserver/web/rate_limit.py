"""How often somebody may do something: token buckets per class and key, in bounded memory.

Owns the buckets of this process; the classes are configuration. With several processes each has its own buckets, so
a client that is spread over N of them may do up to N times as much.

spec: client-server-api/#rate-limiting (CHECKLIST API-08)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from homeserver.matrix.errors import LimitExceeded
from homeserver.runtime.clock import Clock
from homeserver.web.addresses import client_network

PER_DEVICE: Final = frozenset({"sync"})
"""Classes that count each device of a person by itself."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` at once, and `per_second` in the long run."""

    per_second: float
    burst: int


class RateLimiter:
    """Counts per class and key. A class without a rate is not limited."""

    def __init__(
        self, clock: Clock, rates: Mapping[str, Rate], *, guest_factor: float = 1.0, max_keys: int = 100_000
    ) -> None:
        """`guest_factor` is the share of a limit that guests get."""
        self._clock = clock
        self._guest_cost = 1 / guest_factor
        self._rates = dict(rates)
        self.classes = frozenset(rates)
        """Those that are limited."""
        self._max_keys = max_keys
        # When each bucket will be full again. A bucket that is full needs no entry.
        self._full_at: dict[tuple[str, str], float] = {}

    def hit(self, name: str, key: str, *, guest: bool = False, cost: float = 1.0) -> None:
        """Count one act of `key` (a user id, an account; addresses: `hit_address`). Raises `LimitExceeded`, then counting nothing.

        `cost`: what it counts as, for classes that count something else than acts. One that costs more than a bucket holds
        needs a full one.
        """
        rate = self._rates.get(name)
        if rate is None:
            return
        now = self._clock.monotonic()
        bucket = (name, key)
        cost = min(cost * (self._guest_cost if guest else 1.0), rate.burst)
        full_at = max(self._full_at.get(bucket, now), now) + cost / rate.per_second
        room = rate.burst / rate.per_second
        if full_at - now > room + 1e-9:
            raise LimitExceeded(max(1, round((full_at - now - room) * 1000)))
        if len(self._full_at) >= self._max_keys and bucket not in self._full_at:
            self._forget(now)
        self._full_at[bucket] = full_at

    def hit_address(self, name: str, address: str) -> None:
        """Count one act of whoever has an address: all of an IPv6 /64 are one. Raises `LimitExceeded`."""
        if name in self._rates:
            self.hit(name, client_network(address))

    def would_refuse(self, name: str, key: str) -> bool:
        """Whether `hit` would raise; counts nothing. For limits that count failures only: ask first, hit on failure."""
        rate = self._rates.get(name)
        if rate is None:
            return False
        now = self._clock.monotonic()
        full_at = max(self._full_at.get((name, key), now), now) + 1 / rate.per_second
        return full_at - now > rate.burst / rate.per_second + 1e-9

    def reset(self, name: str, key: str) -> None:
        """Forget what was counted."""
        self._full_at.pop((name, key), None)

    def __len__(self) -> int:
        return len(self._full_at)

    def _forget(self, now: float) -> None:
        """Drop full buckets; if there are none, the tenth that would be full first (they lose the least)."""
        kept = {bucket: at for bucket, at in self._full_at.items() if at > now}
        if len(kept) >= self._max_keys:
            by_time = sorted(kept, key=kept.__getitem__)
            for bucket in by_time[: max(1, self._max_keys // 10)]:
                del kept[bucket]
        self._full_at = kept
