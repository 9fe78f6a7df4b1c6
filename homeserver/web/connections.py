"""The connections of this process: aiohttp's low-level server, bounded, and aware of clients that go away.

Owns how many there may be, and what is said to those who do not speak HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import web
from typing_extensions import override

from homeserver.web import cors, limits
from homeserver.web.request import RequestInfo

_log = structlog.get_logger("atrium.web")

Waiting = dict[object, tuple[RequestInfo, "asyncio.Task[Any]"]]
"""By connection: the handler that is to be cancelled when the client goes away."""


@dataclass(slots=True)
class Room:
    """How many connections there may be, over all listeners, and how many there are."""

    limit: int
    taken: int = 0


def connections_possible() -> int:
    """How many connections this process can hold, having raised its limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    most = limits.MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(soft, limits.MAX_CONNECTIONS)
    return max(most - limits.FILES_FOR_OTHERS, most // 2)


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


class Connections(web.Server):
    """The connections of one listener."""

    def __init__(
        self, handle: Callable[[web.BaseRequest], Any], waiting: Waiting, room: Room, *, keepalive: float
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
        self._room = room

    @override
    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=asyncio.get_running_loop(), **self._settings)

    @override
    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._room.taken += 1
        if self._room.taken > self._room.limit:
            # Without a word: an answer would cost what there is none left of.
            _log.warning("too_many_connections", limit=self._room.limit)
            transport.abort()

    @override
    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._room.taken -= 1
        if (found := self._waiting.get(handler)) is not None:
            info, task = found
            info.disconnected = True
            task.cancel()
