"""How often somebody may do something: token buckets per class and key, in bounded memory.

The classes are configuration. The processes of a host share their buckets (`runtime.shared_buckets`); several hosts do not: of N
hosts each lets in an N-th of what may be done in the long run (`runtime.hosts`), so that a client that a load balancer spreads over
them may do as much as with one. At once it may do a whole burst at each.

spec: client-server-api/#rate-limiting (CHECKLIST API-08)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

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


class Buckets(Protocol):
    """When each bucket will be full again, in monotonic seconds. A bucket that is full needs no entry."""

    def get(self, key: str) -> float | None: ...

    def put(self, key: str, seconds: float) -> None: ...

    def forget(self, key: str) -> None: ...

    def __len__(self) -> int: ...


class LocalBuckets:
    """Buckets of one process."""

    def __init__(self, clock: Clock, max_keys: int = 100_000) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._full_at: dict[str, float] = {}

    def get(self, key: str) -> float | None:
        """See `Buckets`."""
        return self._full_at.get(key)

    def put(self, key: str, seconds: float) -> None:
        """See `Buckets`."""
        if len(self._full_at) >= self._max_keys and key not in self._full_at:
            self._make_room()
        self._full_at[key] = seconds

    def forget(self, key: str) -> None:
        """See `Buckets`."""
        self._full_at.pop(key, None)

    def __len__(self) -> int:
        return len(self._full_at)

    def _make_room(self) -> None:
        """Drop full buckets; if there are none, the tenth that would be full first (they lose the least)."""
        now = self._clock.monotonic()
        kept = {bucket: at for bucket, at in self._full_at.items() if at > now}
        if len(kept) >= self._max_keys:
            by_time = sorted(kept, key=kept.__getitem__)
            for bucket in by_time[: max(1, self._max_keys // 10)]:
                del kept[bucket]
        self._full_at = kept


class RateLimiter:
    """Counts per class and key. A class without a rate is not limited."""

    def __init__(
        self,
        clock: Clock,
        rates: Mapping[str, Rate],
        *,
        guest_factor: float = 1.0,
        max_keys: int = 100_000,
        buckets: Buckets | None = None,
    ) -> None:
        """`guest_factor` is the share of a limit that guests get. `buckets`: where it is counted; default: in this process,
        `max_keys` at most.
        """
        self._clock = clock
        self._guest_cost = 1 / guest_factor
        self._rates = dict(rates)
        self.classes = frozenset(rates)
        """Those that are limited."""
        self.hosts = 1.0
        """How many hosts count, each by itself."""
        self._buckets: Buckets = LocalBuckets(clock, max_keys) if buckets is None else buckets

    def hit(
        self, name: str, key: str, *, guest: bool = False, cost: float = 1.0, rate: Rate | None = None
    ) -> None:
        """Count one act of `key` (a user id, an account; addresses: `hit_address`). Raises `LimitExceeded`, then counting nothing.

        `cost`: what it counts as, for classes that count something else than acts. One that costs more than a bucket holds
        needs a full one. `rate`: in place of the class's own, for who has another.
        """
        rate = rate or self._rates.get(name)
        if rate is None:
            return
        now = self._clock.monotonic()
        bucket = f"{name} {key}"
        cost = min(cost * (self._guest_cost if guest else 1.0), rate.burst)
        per_second = rate.per_second / self.hosts
        room = rate.burst / per_second
        # A bucket of before there were fewer hosts holds no more than one of now.
        full_at = min(max(self._buckets.get(bucket) or now, now), now + room) + cost / per_second
        if full_at - now > room + 1e-9:
            raise LimitExceeded(max(1, round((full_at - now - room) * 1000)))
        self._buckets.put(bucket, full_at)

    def hit_address(self, name: str, address: str, *, cost: float = 1.0) -> None:
        """Count one act of whoever has an address: all of an IPv6 /64 are one. Raises `LimitExceeded`. `cost`: see `hit`."""
        if name in self._rates:
            self.hit(name, client_network(address), cost=cost)

    def would_refuse(self, name: str, key: str) -> bool:
        """Whether `hit` would raise; counts nothing. For limits that count failures only: ask first, hit on failure."""
        rate = self._rates.get(name)
        if rate is None:
            return False
        now = self._clock.monotonic()
        per_second = rate.per_second / self.hosts
        full_at = max(self._buckets.get(f"{name} {key}") or now, now) + 1 / per_second
        return full_at - now > rate.burst / per_second + 1e-9

    def share_among(self, hosts: float) -> None:
        """So many hosts let in what the rates say, together."""
        self.hosts = max(1.0, hosts)

    def reset(self, name: str, key: str) -> None:
        """Forget what was counted."""
        self._buckets.forget(f"{name} {key}")

    def __len__(self) -> int:
        """Buckets that are not forgotten."""
        return len(self._buckets)
