"""Connections to other servers: where the route leads, with the name that the certificate must have.

Owns the client session for federation. Addresses are judged where sockets are made (`web/outbound.py`), so a name that
resolves differently the second time, and an SRV record that points inwards, are refused like an address in the name itself.

spec: server-server-api/#tls, #resolving-server-names (CHECKLIST DISC-05, DISC-08)
"""

from __future__ import annotations

import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from federation.transport.body import ACCEPTED_CODINGS
from federation.transport.faults import translated
from federation.transport.routes import DISCOVERY, Route, Target
from federation.transport.tls import NoPartnerTls, PartnerTls
from homeserver.matrix.ids import ServerName
from homeserver.web.outbound import Outbound, PoolBounds, Purpose

CONNECT_SECONDS: Final = 10.0
"""For one attempt at a socket; and as much again for its TLS handshake."""
POOL: Final = PoolBounds(sockets=1000, per_host=0, keepalive=75.0)
"""Per destination `slots.py` says how many."""
PIECES_FROM: Final = 512 * 1024
"""Bytes of a body that are not written at once."""
MAX_HEADERS: Final = 64
MAX_HEADER_FIELD: Final = 8190


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A request, ready to be sent."""

    method: str
    target: str
    """Path and query, encoded: these very characters are sent."""
    headers: Mapping[str, str]
    body: bytes | None = None
    timeout: float = 30.0
    """Seconds; enforced by who sends it, here only an upper bound for handshakes."""


class Connections:
    """The session of a process. `close` when it ends."""

    def __init__(
        self,
        outbound: Outbound,
        resolver: AbstractResolver | None = None,
        partner_tls: PartnerTls | None = None,
    ) -> None:
        """`resolver`: what looks addresses up; it is closed with the session."""
        self._outbound = outbound
        self._resolver = resolver
        self._partner_tls = partner_tls or NoPartnerTls()
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @contextlib.asynccontextmanager
    async def exchange(
        self, destination: ServerName, route: Route, message: Message
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send, and have the answer as long as the block lasts; no redirect is followed.

        The targets of the route are tried one after another until one accepts a connection. Raises `Unreachable`, `NotPermitted`
        before the block begins; the answer is read by `body.py`.
        """
        with translated(destination):
            response = await self._first(destination, route, message)
        try:
            yield response
        finally:
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def close(self) -> None:
        """Close all connections; no more are opened."""
        self._closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._resolver is not None:
            await self._resolver.close()

    async def _first(self, destination: ServerName, route: Route, message: Message) -> aiohttp.ClientResponse:
        *earlier, last = route.targets
        for target in earlier:
            try:
                return await self._send(destination, route, target, message)
            except aiohttp.ClientConnectorError:
                continue
        return await self._send(destination, route, last, message)

    async def _send(
        self, destination: ServerName, route: Route, target: Target, message: Message
    ) -> aiohttp.ClientResponse:
        path, _, query = message.target.partition("?")
        url = URL.build(
            scheme="https",
            host=f"[{target.host}]" if ":" in target.host else target.host,
            port=target.port,
            path=path,
            query_string=query,
            encoded=True,
        )
        trust = self._trusted(destination, route)
        return await self._opened().request(
            message.method,
            url,
            headers={
                hdrs.HOST: route.host_header,
                hdrs.ACCEPT_ENCODING: ACCEPTED_CODINGS,
                **message.headers,
            },
            # The library writes bytes at once, and warns of many; a file's it writes in pieces.
            data=message.body if len(message.body or b"") < PIECES_FROM else io.BytesIO(message.body or b""),
            allow_redirects=False,
            ssl=True if trust is None else trust,
            server_hostname=route.tls_name,
            proxy=self._outbound.settings.proxy,
            timeout=aiohttp.ClientTimeout(total=message.timeout, sock_connect=CONNECT_SECONDS),
        )

    def _trusted(self, destination: ServerName, route: Route) -> ssl.SSLContext | None:
        """What the certificate is checked against; None: what everybody's is."""
        trust = self._partner_tls.of(destination)
        if trust is None:
            return None
        return trust.discovery or trust.context if route.step == DISCOVERY else trust.context

    def _opened(self) -> aiohttp.ClientSession:
        """Raises `OSError` once they are closed: whoever still asks while the server ends opens none that nobody would close."""
        if self._closed:
            raise OSError("this server is ending")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._outbound.connector(Purpose.FEDERATION, self._resolver, bounds=POOL),
                headers={hdrs.USER_AGENT: self._outbound.settings.user_agent},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                read_bufsize=2**17,
                max_field_size=MAX_HEADER_FIELD,
                max_headers=MAX_HEADERS,
            )
        return self._session
