"""Listening, and stopping to listen.

Owns the listening sockets of this process; what comes in on them is `connections.py`, what is answered `dispatch.py`.
Shutting down: no new connections; long polls are told by `closing` and answer at once; running requests get `grace`
seconds; what still runs then is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from homeserver.runtime.clock import Entropy
from homeserver.web.connections import Connections, Room, Waiting, connections_possible
from homeserver.web.dispatch import Dispatcher, Parts, Sent
from homeserver.web.listener import Listener
from homeserver.web.proxies import TrustedProxies
from homeserver.web.registry import Registry
from homeserver.web.request import RequestInfo

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
    ) -> None:
        """`keepalive`: seconds an idle connection stays. `max_connections`: default from the limit of open files."""
        self._registry = registry
        self._parts = parts
        self._keepalive = keepalive
        self._room = Room(max_connections or connections_possible())
        self._numbers = itertools.count(1)
        self._prefix = entropy.letters(6)
        self._open: list[_Open] = []
        self._under_way = 0
        self._done = asyncio.Event()
        self.closing = asyncio.Event()
        """Set at the beginning of a shutdown."""

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
        self.closing.set()
        for opened in self._open:
            opened.sockets.close()
            opened.connections.pre_shutdown()
        if self._under_way:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), grace)
        await asyncio.gather(*(o.connections.shutdown(LAST_MOMENT) for o in self._open))
        self._open.clear()
        self._parts.wire.close()

    async def _listen(self, listener: Listener) -> _Open:
        loop = asyncio.get_running_loop()
        waiting: Waiting = {}
        dispatcher = Dispatcher(self._registry.router(listener.resources), self._parts, waiting)
        proxies = TrustedProxies(listener.trusted_proxies)
        prefix, numbers = self._prefix, self._numbers

        async def handle(http: web.BaseRequest) -> Sent:
            info = RequestInfo(http, (prefix, next(numbers)), self.closing, proxies)
            self._under_way += 1
            try:
                return await dispatcher.answer(info)
            finally:
                self._under_way -= 1
                if not self._under_way and self.closing.is_set():
                    self._done.set()

        connections = Connections(handle, waiting, self._room, keepalive=self._keepalive)
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
