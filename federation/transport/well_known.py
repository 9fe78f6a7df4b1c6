"""Delegation: what `/.well-known/matrix/server` of a host says, and for how long it holds.

spec: server-server-api/#resolving-server-names step 3, #getwell-knownmatrixserver (CHECKLIST DISC-06, DISC-07)
"""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from federation.ports import RemoteFault, Unreachable
from federation.transport import body as bodies
from federation.transport.connections import Connections, Message
from federation.transport.names import HostPort, split_server_name
from federation.transport.once import Once, TooMany
from federation.transport.routes import DISCOVERY, Route, Target
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.web.outbound import OutboundError, redirected

PORT: Final = 443
SECONDS: Final = 8.0
"""For all of it. Many hosts drop what comes to this port, and the lookup goes on without it."""
MAX_BYTES: Final = 50 * 1024
MAX_REDIRECTS: Final = 5

DEFAULT_SECONDS: Final = 24 * 3600
"""spec: #resolving-server-names: where the answer has no cache headers"""
LONGEST_SECONDS: Final = 48 * 3600
"""spec: the same"""
SHORTEST_SECONDS: Final = 300
"""Whatever the answer says: nobody is asked before each request."""
FIRST_ERROR_SECONDS: Final = 60
ERROR_FACTOR: Final = 4
LONGEST_ERROR_SECONDS: Final = 3600
"""spec: the same: errors are remembered for up to an hour"""
GRACE_SECONDS: Final = 3600
"""So long what was said before holds on while the host does not answer at all."""

MAX_REMEMBERED: Final = 20_000
"""Hosts."""
MAX_UNDER_WAY: Final = 1000
"""Hosts that are asked at the same time."""


class _WellKnown(msgspec.Struct):
    server: str = msgspec.field(name="m.server")


class _Entry(NamedTuple):
    """What is remembered of a host; times of the monotonic clock."""

    delegated: HostPort | None
    until: float
    """When it is asked again."""
    good_until: float
    """Until when `delegated` may be believed."""
    failures: int


class WellKnown:
    """Asks hosts, and remembers what they said."""

    def __init__(self, connections: Connections, clock: Clock, *, port: int = PORT) -> None:
        """`port`: for tests."""
        self._connections = connections
        self._clock = clock
        self._port = port
        self._entries: dict[str, _Entry] = {}
        self._once: Once[str, HostPort | None] = Once(MAX_UNDER_WAY)

    async def find(self, server_name: ServerName, host: str) -> HostPort | None:
        """Where the host says that its server is; None if it says nothing that can be understood. Raises nothing."""
        entry = self._entries.get(host)
        if entry is not None and self._clock.monotonic() < entry.until:
            return entry.delegated
        try:
            return await self._once.run(host, lambda: self._ask(server_name, host))
        except TooMany:
            return None

    def forget(self, host: str) -> None:
        """Ask it anew next time."""
        self._entries.pop(host, None)

    async def close(self) -> None:
        """End what is under way."""
        await self._once.close()

    async def _ask(self, server_name: ServerName, host: str) -> HostPort | None:
        before = self._entries.get(host)
        try:
            async with asyncio.timeout(SECONDS):
                delegated, lasts = await self._request(server_name, host)
        except (RemoteFault, OutboundError, TimeoutError, ValueError) as error:
            entry = self._failed(before, silent=isinstance(error, Unreachable | TimeoutError))
        else:
            until = self._clock.monotonic() + lasts
            entry = _Entry(delegated, until, until + GRACE_SECONDS, 0)
        self._entries.pop(host, None)
        self._entries[host] = entry
        if len(self._entries) > MAX_REMEMBERED:
            del self._entries[next(iter(self._entries))]
        return entry.delegated

    def _failed(self, before: _Entry | None, *, silent: bool) -> _Entry:
        """`silent`: the host said nothing; otherwise it said that it delegates to nobody."""
        now = self._clock.monotonic()
        failures = 1 if before is None else before.failures + 1
        pause = min(LONGEST_ERROR_SECONDS, FIRST_ERROR_SECONDS * ERROR_FACTOR ** min(failures - 1, 10))
        if silent and before is not None and before.delegated is not None and now < before.good_until:
            return _Entry(before.delegated, min(now + pause, before.good_until), before.good_until, failures)
        return _Entry(None, now + pause, 0.0, failures)

    async def _request(self, server_name: ServerName, host: str) -> tuple[HostPort, float]:
        """(delegated to, seconds it holds). Raises `RemoteFault`, `OutboundError`, `ValueError`."""
        url = URL.build(scheme="https", host=host, port=self._port, path="/.well-known/matrix/server")
        for _ in range(MAX_REDIRECTS + 1):
            async with self._connections.exchange(server_name, _route(url), _message(url)) as response:
                following = redirected(response, url)
                if following is None:
                    return await _read(server_name, response)
            if following.scheme != "https":
                raise ValueError("redirected to what is not encrypted")
            url = following
        raise ValueError("too many redirects")


def _route(url: URL) -> Route:
    host, port = url.host or "", url.port or PORT
    authority = HostPort(host, None, literal=False).authority(None if port == PORT else port)
    return Route(
        targets=(Target(host, port),),
        host_header=authority,
        tls_name=host,
        step=DISCOVERY,
    )


def _message(url: URL) -> Message:
    return Message(method="GET", target=url.raw_path_qs, headers={}, timeout=SECONDS)


async def _read(server_name: ServerName, response: aiohttp.ClientResponse) -> tuple[HostPort, float]:
    if response.status != 200:
        raise ValueError(f"status {response.status}")
    body = await bodies.whole(server_name, response, MAX_BYTES)
    # spec: the content type does not matter
    told: Any = bodies.decode(server_name, body, MAX_BYTES, _WellKnown)
    return split_server_name(told.server), lifetime(response.headers)


def lifetime(headers: Any) -> float:
    """Seconds for which an answer may be believed, from `Cache-Control`, or else `Expires` and `Date`. RFC 9111, 5.2.2, 5.3"""
    seconds = _asked_for(headers)
    return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)


def _asked_for(headers: Any) -> float:
    control = ",".join(headers.getall(hdrs.CACHE_CONTROL, []))
    for part in control.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() in {"no-store", "no-cache"}:
            return 0
        value = value.strip('" ')
        if name.lower() == "max-age" and value.isascii() and value.isdigit():
            return float(value[:10])
    try:
        expires = parsedate_to_datetime(headers[hdrs.EXPIRES])
        return (expires - parsedate_to_datetime(headers[hdrs.DATE])).total_seconds()
    except KeyError:
        return DEFAULT_SECONDS
    except (TypeError, ValueError, OverflowError):
        return 0  # RFC 9111, 5.3: what is no date is over
