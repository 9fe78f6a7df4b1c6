"""The connections of this process: aiohttp's low-level server, bounded, and aware of clients that go away.

Owns how many there may be, and what is said to those who do not speak HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import StreamReader, web, web_protocol
from aiohttp.http import RawRequestMessage, StreamWriter
from typing_extensions import override

from homeserver.web import cors, limits
from homeserver.web.request import RequestInfo

_log = structlog.get_logger("atrium.web")

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
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
    """aiohttp's connection, answering what is no HTTP in our format, and without a task for each request."""

    __slots__ = ()

    @override
    async def start(self) -> None:
        """Answer one request after another, in the connection's own task: half of what a connection costs is the task that
        aiohttp makes for each. What is not a plain request (an error, an upgrade) is left to aiohttp's own loop.
        """
        loop, manager, handle = self._loop, self._manager, self._request_handler
        assert manager is not None
        assert handle is not None
        while not self._force_close:
            if not self._messages:
                self._waiter = loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = self._messages[0]
            if not isinstance(message, RawRequestMessage) or message.upgrade:
                await super().start()
                return
            self._messages.popleft()
            if self._parser is not None:
                self._parser.message_consumed()
            if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                self._resume_reading_if_drained()
            manager.requests_count += 1
            await self._answer(message, payload, handle)
            if not payload.is_eof():
                await self._read_the_rest(payload)
            if not self._goes_on():
                break
            self._next_keepalive_close_time = loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = loop.call_at(
                    self._next_keepalive_close_time, self._process_keepalive
                )
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()

    async def _answer(self, message: RawRequestMessage, payload: StreamReader, handle: Handle) -> None:
        factory, task = self._request_factory, self._task_handler
        assert factory is not None
        assert task is not None
        request = factory(message, payload, self, StreamWriter(self, self._loop), task)
        self._request_in_progress, self._current_request = True, request
        try:
            self._keepalive = bool((await handle(request)).keep_alive)
        except Exception:  # noqa: BLE001  # the dispatcher raises nothing; if it does, this connection alone ends
            _log.exception("connection_failed")
            self.force_close()
        finally:
            self._request_in_progress, self._current_request = False, None
            if self._handler_waiter is not None:
                self._handler_waiter.set_result(None)

    def _goes_on(self) -> bool:
        return self._keepalive and not self._close and not self._force_close

    async def _read_the_rest(self, payload: StreamReader) -> None:
        """Of a body that was answered before it was read; if there is too much of it, the connection ends."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except (TimeoutError, web_protocol.RequestPayloadError, ConnectionError):
            self.close()

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
