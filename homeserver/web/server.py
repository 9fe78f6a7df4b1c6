"""Listening, and stopping to listen.

Owns the sockets and the connections of this process: aiohttp's low-level server with our dispatcher behind it.
Shutting down: no new connections; long polls are told by `closing` and answer at once; running requests get `grace`
seconds; what still runs then is cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import web
from typing_extensions import override

from homeserver.runtime.clock import Entropy
from homeserver.web import cors, limits
from homeserver.web.dispatch import Dispatcher, Parts, Sent
from homeserver.web.listener import Listener
from homeserver.web.proxies import TrustedProxies
from homeserver.web.registry import Registry
from homeserver.web.request import RequestInfo

_log = structlog.get_logger("atrium.web")

Waiting = dict[object, tuple[RequestInfo, "asyncio.Task[Any]"]]


@dataclass(slots=True)
class _Open:
    """A listener at work."""

    listener: Listener
    connections: _Connections
    sockets: asyncio.AbstractServer
    tls: ssl.SSLContext | None


class WebServer:
    """Serves the endpoints of a registry on any number of listeners."""

    def __init__(
        self, registry: Registry, parts: Parts, entropy: Entropy, *, keepalive: float = 120.0
    ) -> None:
        self._registry = registry
        self._parts = parts
        self._keepalive = keepalive
        self._numbers = itertools.count(1)
        self._prefix = entropy.letters(6)
        self._open: list[_Open] = []
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
        await asyncio.gather(*(o.connections.finish(grace) for o in self._open))
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
            return await dispatcher.answer(info)

        connections = _Connections(handle, waiting, keepalive=self._keepalive)
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


class _Protocol(web.RequestHandler):
    """aiohttp's connection, answering what is no HTTP in our format."""

    __slots__ = ()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            _log.error("connection_failed", exc_info=exc)
        body = msgspec.json.encode({"errcode": "M_UNKNOWN", "error": "This is not a valid HTTP request"})
        response = web.Response(
            status=status,
            body=body,
            content_type="application/json",
            headers={**dict(cors.ON_EVERY_ANSWER), "Connection": "close"},
        )
        response.force_close()
        return response


class _Connections(web.Server):
    """The connections of one listener."""

    def __init__(
        self, handle: Callable[[web.BaseRequest], Any], waiting: Waiting, *, keepalive: float
    ) -> None:
        self._settings: dict[str, Any] = {
            "access_log": None,
            "keepalive_timeout": keepalive,
            "max_line_size": limits.MAX_REQUEST_LINE,
            "max_field_size": limits.MAX_HEADER_FIELD,
            "max_headers": limits.MAX_HEADERS,
            "lingering_time": 5.0,
        }
        super().__init__(handle)
        self._waiting = waiting

    @override
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._settings)

    @override
    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        if (found := self._waiting.get(handler)) is not None:
            info, task = found
            info.disconnected = True
            task.cancel()

    async def finish(self, grace: float) -> None:
        """Wait for running requests, then close what is left."""
        await self.shutdown(grace)
