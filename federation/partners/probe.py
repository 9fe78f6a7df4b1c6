"""Looking at a server from here, step by step, and saying in words what is wrong: `atrium federation test NAME`.

spec: server-server-api/#server-discovery, #retrieving-server-keys
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, NamedTuple

from aiohttp import hdrs

from federation.keys.responses import BadKeys, judge
from federation.ports import RemoteFault
from federation.transport import body as bodies
from federation.transport.connections import Connections, Message
from federation.transport.resolution import Resolver
from federation.transport.routes import Route
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock

SECONDS: Final = 15.0
MAX_BYTES: Final = 128 * 1024
CLOCK_DOUBTFUL_MS: Final = 60_000

STEPS: Final = {
    "1": "it is an address",
    "2": "its name says the port",
    "3.1": "its well-known file says an address",
    "3.2": "its well-known file says host and port",
    "3.3": "its well-known file says a name, and that one's SRV record (_matrix-fed) a host",
    "3.4": "its well-known file says a name, and that one's old SRV record (_matrix) a host",
    "3.5": "its well-known file says a name, which has no SRV record: port 8448",
    "4": "it has no well-known file, but an SRV record (_matrix-fed)",
    "5": "it has no well-known file, but an old SRV record (_matrix)",
    "6": "it has neither well-known file nor SRV record: port 8448",
}


class Finding(NamedTuple):
    """One step."""

    verdict: Literal["good", "doubtful", "wrong"]
    sentence: str


class Probe:
    """Asks a server what it tells everybody."""

    def __init__(self, resolver: Resolver, connections: Connections, clock: Clock) -> None:
        self._resolver = resolver
        self._connections = connections
        self._clock = clock

    async def look(self, server_name: ServerName) -> AsyncIterator[Finding]:
        """Name, connection and certificate, program, keys, clock; ends where nothing more can be said. Raises nothing."""
        try:
            route = await self._resolver.resolve(server_name)
        except ValueError:
            yield Finding("wrong", f"{server_name} is not a server name")
            return
        except RemoteFault as fault:
            yield Finding("wrong", f"{server_name} is not found: {fault.problem}")
            return
        places = ", ".join(f"{target.host} port {target.port}" for target in route.targets)
        yield Finding("good", f"{server_name} is at {places}: {STEPS[route.step]}")
        try:
            version, _ = await self._get(server_name, route, "/_matrix/federation/v1/version")
            yield Finding(
                "good", f"It shows a certificate for {route.tls_name} and answers: {_program(version)}"
            )
            keys, date = await self._get(server_name, route, "/_matrix/key/v2/server")
        except RemoteFault as fault:
            yield Finding("wrong", f"It does not answer as it should: {fault.problem}")
            return
        yield self._keys(server_name, keys)
        yield self._time(date)

    async def _get(self, server_name: ServerName, route: Route, path: str) -> tuple[dict[str, Any], str]:
        message = Message(method="GET", target=path, headers={}, timeout=SECONDS)
        async with self._connections.exchange(server_name, route, message) as response:
            body = await bodies.whole(server_name, response, MAX_BYTES)
            if response.status != 200:
                errcode, error = bodies.standard_error(body)
                raise RemoteFault(server_name, f"{path} is {response.status} {errcode} {error}"[:300])
            found = bodies.decode(server_name, body, MAX_BYTES, dict[str, Any])
            return found, response.headers.get(hdrs.DATE, "")

    def _keys(self, server_name: ServerName, response: dict[str, Any]) -> Finding:
        now = self._clock.now_ms()
        try:
            keys = judge(response, server_name, now)
        except BadKeys as error:
            return Finding("wrong", f"Its keys cannot be believed: {error}")
        current = ", ".join(sorted(key_id for key_id, key in keys.keys.items() if not key.old))
        hours = (keys.valid_until_ts - now) / 3_600_000
        if hours <= 0:
            return Finding(
                "wrong", f"Its keys ({current}) are over since {-hours:.1f} hours: is a clock wrong?"
            )
        verdict: Literal["good", "doubtful"] = "good" if hours >= 1 else "doubtful"
        return Finding(verdict, f"It signs with {current}, valid for another {hours:.1f} hours")

    def _time(self, date: str) -> Finding:
        try:
            told = parsedate_to_datetime(date).timestamp() * 1000
        except (TypeError, ValueError):
            return Finding("doubtful", "It does not say what time it is")
        apart = self._clock.now_ms() - told
        if abs(apart) > CLOCK_DOUBTFUL_MS:
            return Finding("doubtful", f"Its clock and ours are {abs(apart) / 1000:.0f} seconds apart")
        return Finding("good", "Its clock and ours agree")


def _program(version: dict[str, Any]) -> str:
    server = version.get("server")
    if not isinstance(server, dict):
        return "a program that does not say its name"
    return f"{server.get('name')!s:.60} {server.get('version')!s:.60}"
