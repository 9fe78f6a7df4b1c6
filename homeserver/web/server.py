"""Listening, and stopping to listen.

Owns the listening sockets of this process; what comes in on them is `connections.py`, what is answered `dispatch.py`.
Shutting down: no new connections; long polls are told by `closing` and answer at once; running requests get `grace`
seconds; what still runs then is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from homeserver.runtime.clock import Entropy
from homeserver.web import limits
from homeserver.web.clients import Clients
from homeserver.web.connections import Connections, ServerState, connections_possible
from homeserver.web.dispatch import Dispatcher, Parts
from homeserver.web.listener import Listener
from homeserver.web.proxies import TrustedProxies
from homeserver.web.registry import Registry
from homeserver.web.steering import Steering

LAST_MOMENT: Final = 0.1
"""Seconds that connections get to close after the requests have ended, and handlers to end after being cancelled."""


@dataclass(slots=True)
class _Open:
    """A listener at work."""

    listener: Listener
    connections: Connections
    sockets: asyncio.AbstractServer
    tls: ssl.SSLContext | None


class WebServer:
    """Serves the endpoints of a registry on any number of listeners."""

    def __init__(
        self,
        registry: Registry,
        parts: Parts,
        entropy: Entropy,
        *,
        keepalive: float = 120.0,
        max_connections: int | None = None,
        max_per_client: int | None = None,
        steering: Steering | None = None,
    ) -> None:
        """`keepalive`: seconds an idle connection stays. `max_connections`: default from the limit of open files.
        `max_per_client`: connections, and requests under way that a proxy passes on; default: not bounded, else at most half.
        `steering`: where other processes listen too, and connections go from one to another.
        """
        self._registry = registry
        self._parts = parts
        most = min(max_connections or limits.MAX_CONNECTIONS, connections_possible())
        per_client = None if max_per_client is None else min(max_per_client, max(1, most // 2))
        self._state = ServerState(entropy.letters(6), keepalive, most, Clients(per_client), steering=steering)
        self._open: list[_Open] = []

    @property
    def addresses(self) -> list[tuple[Listener, str, int]]:
        """(listener, host, port) of every socket that is listened on; a Unix socket has port 0."""
        found: list[tuple[Listener, str, int]] = []
        for opened in self._open:
            for sock in opened.sockets.sockets:  # type: ignore[attr-defined]  # every event loop's server has them
                name = sock.getsockname()
                host, port = (name[0], name[1]) if isinstance(name, tuple) else (str(name), 0)
                found.append((opened.listener, host, port))
        return found

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Listen on all of them, or on none: raises `OSError` where an address cannot be had."""
        try:
            for listener in listeners:
                self._open.append(await self._listen(listener))
            if self._state.steering is not None:
                self._state.steering.start([opened.connections for opened in self._open])
        except BaseException:
            await self.stop(grace=0)
            raise

    def reload_certificates(self) -> None:
        """Read certificates anew, for connections from now on. Raises as `Tls.context`; then the old ones stay."""
        for opened in self._open:
            if opened.tls is not None and opened.listener.tls is not None:
                opened.listener.tls.context()  # first into a fresh one: half a renewal must not break the listener
                opened.tls.load_cert_chain(opened.listener.tls.certificate, opened.listener.tls.key)

    async def stop(self, grace: float = 8.0) -> None:
        """Stop listening, let requests finish for up to `grace` seconds, cancel the rest. Idempotent."""
        self._state.closing.set()
        if self._state.steering is not None:
            self._state.steering.stop()
        for opened in self._open:
            opened.sockets.close()
            opened.connections.finish()
        if self._state.under_way:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self._state.quiet.wait()
        await asyncio.gather(*(opened.connections.end(LAST_MOMENT) for opened in self._open))
        self._open.clear()
        self._parts.writer.close()

    async def _listen(self, listener: Listener) -> _Open:
        loop = asyncio.get_running_loop()
        dispatcher = Dispatcher(self._registry.router(listener.resources), self._parts)
        proxies = TrustedProxies(listener.trusted_proxies)
        connections = Connections(self._state, dispatcher, proxies, tls=listener.tls is not None)
        tls = listener.tls.context() if listener.tls else None
        if listener.unix_socket is not None:
            sockets = await loop.create_unix_server(
                connections, str(listener.unix_socket), ssl=tls, backlog=listener.backlog
            )
        else:
            sockets = await loop.create_server(
                connections,
                listener.host or None,
                listener.port,
                ssl=tls,
                backlog=listener.backlog,
                reuse_port=listener.reuse_port or None,
            )
        return _Open(listener, connections, sockets, tls)
