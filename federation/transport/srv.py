"""SRV records: where a name's server is, as DNS says.

spec: server-server-api/#resolving-server-names steps 3.3, 3.4, 4 and 5; RFC 2782
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import dns.asyncresolver
import dns.exception
import dns.resolver
import structlog
from dns.rdtypes.IN.SRV import SRV

from federation.transport.once import Once, TooMany
from federation.transport.routes import Target
from homeserver.runtime.clock import Clock, Entropy

_log = structlog.get_logger(__name__)

SECONDS: Final = 5.0
"""For one lookup, all name servers together."""
MAX_TARGETS: Final = 8
"""Of one name that are tried."""
SHORTEST_SECONDS: Final = 60
LONGEST_SECONDS: Final = 86_400
NONE_SECONDS: Final = 600
"""So long it is remembered that there are none."""
FAILED_SECONDS: Final = 60
MAX_REMEMBERED: Final = 20_000
MAX_UNDER_WAY: Final = 500


class Record(NamedTuple):
    """One SRV record."""

    priority: int
    weight: int
    port: int
    host: str
    """Without the dot at its end; empty: decidedly nowhere."""


class Records(NamedTuple):
    """What DNS answered."""

    records: Sequence[Record]
    ttl: float
    """Seconds."""


class SrvLookup(Protocol):
    """Asks DNS."""

    async def srv(self, name: str) -> Records:
        """Empty if there are none. Raises `LookupFailed`."""
        ...


class LookupFailed(Exception):
    """DNS did not answer; the text is fit for a log."""


class NotServed(Exception):
    """DNS says that the service is decidedly not available. RFC 2782: a target of `.`"""


class DnsLookup:
    """The name servers of the system, asked without a thread."""

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        """`resolver`: for tests; otherwise as the system is set up, read at the first lookup."""
        self._resolver = resolver

    async def srv(self, name: str) -> Records:
        """See `SrvLookup`."""
        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
            answer = await self._resolver.resolve(name + ".", "SRV", lifetime=SECONDS, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return Records((), NONE_SECONDS)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise LookupFailed(type(error).__name__) from error
        records = [
            Record(each.priority, each.weight, each.port, str(each.target).rstrip("."))
            for each in answer
            if isinstance(each, SRV)
        ]
        ttl = 0 if answer.rrset is None else answer.rrset.ttl
        return Records(records, ttl)


class SrvTargets:
    """Targets by service and name, remembered as long as DNS says."""

    def __init__(self, lookup: SrvLookup, clock: Clock, entropy: Entropy) -> None:
        self._lookup = lookup
        self._clock = clock
        self._entropy = entropy
        self._known: dict[str, tuple[Sequence[Record], float]] = {}
        self._once: Once[str, Sequence[Record]] = Once(MAX_UNDER_WAY)

    async def find_first(self, services: Sequence[str], host: str) -> tuple[int, tuple[Target, ...]] | None:
        """The first of the services that has targets: (its place, they, as `find` gives them); None: none has. All are asked at
        once: a silent DNS costs the time of one lookup.

        Raises `NotServed` if a service says so before one that has some.
        """
        asked = [asyncio.ensure_future(self.find(service, host)) for service in services]
        try:
            for place, each in enumerate(asked):
                if targets := await each:
                    return place, targets
            return None
        finally:  # what is under way goes on, and is remembered
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def find(self, service: str, host: str) -> tuple[Target, ...]:
        """In the order in which they are tried, drawn by weight each time; empty if there are none, or DNS does not answer.

        Raises `NotServed`.
        """
        name = f"{service}._tcp.{host}"
        known = self._known.get(name)
        if known is not None and self._clock.monotonic() < known[1]:
            records = known[0]
        else:
            try:
                records = await self._once.run(name, lambda: self._ask(name))
            except TooMany:
                return ()
        if len(records) == 1 and not records[0].host:
            raise NotServed
        targets = [Target(each.host, each.port) for each in in_order(records, self._entropy)]
        return tuple(target for target in targets if target.host and target.port)[:MAX_TARGETS]

    def forget(self, host: str) -> None:
        """Ask anew next time."""
        for name in [name for name in self._known if name.endswith(f"._tcp.{host}")]:
            del self._known[name]

    async def close(self) -> None:
        """End what is under way."""
        await self._once.close()

    async def _ask(self, name: str) -> Sequence[Record]:
        try:
            records, ttl = await self._lookup.srv(name)
            lasts = min(max(ttl, SHORTEST_SECONDS), LONGEST_SECONDS)
        except LookupFailed as error:
            # What DNS said last goes on, since it says nothing else.
            records, lasts = self._known.get(name, ((), 0.0))[0], FAILED_SECONDS
            _log.info("federation.srv_not_found", name=name, problem=str(error))
        self._known.pop(name, None)
        self._known[name] = (records, self._clock.monotonic() + lasts)
        if len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        return records


def in_order(records: Sequence[Record], entropy: Entropy) -> list[Record]:
    """By priority, and within one drawn by weight. RFC 2782, usage rules"""
    ordered: list[Record] = []
    for priority in sorted({each.priority for each in records}):
        # Those without weight stand first, so that they have a small chance.
        left = sorted((each for each in records if each.priority == priority), key=lambda each: each.weight)
        while left:
            at = entropy.below(sum(each.weight for each in left) + 1)
            running = 0
            for each in left:
                running += each.weight
                if running >= at:
                    break
            ordered.append(each)
            left.remove(each)
    return ordered
