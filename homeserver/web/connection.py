"""One connection: its requests one after another, in one task.

Owns the protocol between the socket and the dispatcher. HTTP itself is aiohttp's parser; aiohttp's own server around it costs as
much again for each request as everything else here (docs/decisions/0011-own-connections.md).

spec: client-server-api/#api-standards; RFC 9112
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, cast

import structlog
from aiohttp import EMPTY_PAYLOAD, StreamReader
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage
from aiohttp.tcp_helpers import tcp_keepalive, tcp_nodelay
from aiohttp.web_protocol import RequestPayloadError
from typing_extensions import override

from homeserver.web import cors, limits

_log = structlog.get_logger("atrium.web")

NOT_HTTP: Final = b'{"errcode":"M_UNKNOWN","error":"This is not a valid HTTP request"}'
_REFUSAL: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n%b\r\n%b"
    % (
        "".join(f"{name}: {value}\r\n" for name, value in cors.ON_EVERY_ANSWER).encode(),
        len(NOT_HTTP),
        b"Connection: close\r\n",
        NOT_HTTP,
    )
)


class ConnectionOwner(Protocol):
    """What connections of one listener share."""

    keepalive: float
    """Seconds an idle connection stays."""

    async def answer(self, connection: Connection, message: RawRequestMessage, content: StreamReader) -> bool:
        """Answer a request; whether the connection can carry another one."""
        ...

    def opened(self, connection: Connection) -> bool:
        """Whether there is room for it."""
        ...

    def closed(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """Made by the listening socket for each client."""

    __slots__ = (
        "transport",
        "peer",
        "scheme",
        "gone",
        "task",
        "writing_paused",
        "interruptible",
        "_owner",
        "_loop",
        "_parser",
        "_requests",
        "_waiter",
        "_drained",
        "_body",
        "_last",
        "_deadline",
        "_timer",
        "_body_paused",
        "_queue_paused",
        "_upgraded",
    )

    def __init__(self, owner: ConnectionOwner) -> None:
        loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        """The address at the other end; empty for a Unix socket."""
        self.scheme = "http"
        self.gone = False
        """The other end has closed it."""
        self.task: asyncio.Task[None] | None = None
        self.writing_paused = False
        self.interruptible = False
        """The task runs a handler that is to be cancelled when the client goes away."""
        self._owner = owner
        self._loop = loop
        self._parser = HttpRequestParser(
            self,  # type: ignore[arg-type]  # its own BaseProtocol; of it, bodies call what stands here under "reading"
            loop,
            limits.READ_BUFFER,
            max_line_size=limits.MAX_REQUEST_LINE,
            max_field_size=limits.MAX_HEADER_FIELD,
            max_headers=limits.MAX_HEADERS,
            payload_exception=RequestPayloadError,
            max_msg_queue_size=limits.MAX_PIPELINED,
        )
        self._requests: deque[tuple[RawRequestMessage | None, StreamReader]] = deque()
        """What came in and is not answered; None: what is no HTTP."""
        self._waiter: asyncio.Future[None] | None = None
        """The task waits for the next request."""
        self._drained: asyncio.Future[None] | None = None
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the request that is being answered."""
        self._last = False
        """After the request under way there is no other."""
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._body_paused = self._queue_paused = self._upgraded = False

    # --- the life of a connection ----------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)
        tcp_nodelay(transport, True)
        tcp_keepalive(transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        if not self._owner.opened(self):
            transport.abort()  # without a word: an answer would cost what there is none left of
            return
        self._deadline = self._loop.time() + self._owner.keepalive
        self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        self.task = self._loop.create_task(self._run())

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
        if not self._body.is_eof():
            self._body.set_exception(ConnectionResetError("the client has gone"))
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if self.interruptible and self.task is not None:
            self.task.cancel()
        self._wake()
        self._owner.closed(self)

    def finish(self) -> None:
        """Answer what is under way, and no more."""
        self._last = True
        self._wake()

    def abort(self) -> None:
        """End it now, whatever is on its way."""
        if self.transport is not None:
            self.transport.abort()

    async def _run(self) -> None:
        """Answer one request after another. A task for each would be half of what a small request costs."""
        try:
            while await self._next() and await self._answer_one():
                pass
        except Exception:  # noqa: BLE001  # the dispatcher raises nothing; if it does, this connection alone ends
            _log.exception("connection_failed")
        finally:
            self._last, self.task = True, None
            if self.transport is not None:
                self.transport.close()
                self._loop.call_later(
                    limits.LINGER_SECONDS, self.abort
                )  # who does not take the rest by then never will

    async def _next(self) -> bool:
        """Wait for a request; False if there will be none."""
        while not self._requests:
            if self._last or self.gone:
                return False
            self._deadline = self._loop.time() + self._owner.keepalive
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return not self._last

    async def _answer_one(self) -> bool:
        message, self._body = self._requests.popleft()
        if message is None:
            if self.transport is not None:
                self.transport.write(_REFUSAL)
            return False
        self._parser.message_consumed()
        if self._queue_paused and len(self._requests) <= limits.MAX_PIPELINED // 2:
            self._read_on()
        again = await self._owner.answer(self, message, self._body)
        if not self._body.is_eof():
            again = await self._read_the_rest() and again
        self._body = EMPTY_PAYLOAD
        return again and not self._upgraded and not self._last and not self.gone

    async def _read_the_rest(self) -> bool:
        """Of a body that was answered before it was read; whether there is another request behind it."""
        try:
            async with asyncio.timeout(limits.LINGER_SECONDS):
                while not self._body.is_eof():
                    await self._body.readany()
        except (TimeoutError, RequestPayloadError, ConnectionError):
            return False
        return True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_at_the_clock(self) -> None:
        now = self._loop.time()
        if self._waiter is not None and now >= self._deadline:
            self.finish()
            return
        again = self._deadline if now < self._deadline else now + self._owner.keepalive
        self._timer = self._loop.call_at(again, self._look_at_the_clock)

    # --- reading ---------------------------------------------------------------------------------------------------

    @override
    def data_received(self, data: bytes) -> None:
        if self._upgraded or (self._last and self._body.is_eof()):
            return
        try:
            messages, self._upgraded, _ = self._parser.feed_data(data)
            self._requests.extend(messages)
        except HttpProcessingError:
            self._requests.append((None, EMPTY_PAYLOAD))
            self._upgraded = True  # where the next request would begin nobody can tell
        if self._requests:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
            if len(self._requests) >= limits.MAX_PIPELINED:
                self._queue_paused = True
                self._pause()

    @override
    def eof_received(self) -> bool:
        return False

    @property
    def connected(self) -> bool:
        """Asked by aiohttp's `StreamReader`."""
        return self.transport is not None

    def pause_reading(self) -> None:
        """Called by aiohttp's `StreamReader`: more of a body has come than anybody has read."""
        self._body_paused = True
        self._parser.pause_reading()
        self._pause()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by aiohttp's `StreamReader`."""
        if not self._body_paused:
            return
        self._body_paused = False
        if resume_parser:
            self.data_received(b"")  # what the parser has kept
        self._resume()

    def _read_on(self) -> None:
        """Requests that waited were taken: let the parser bring those that it has kept."""
        self.data_received(b"")
        if len(self._requests) < limits.MAX_PIPELINED:
            self._queue_paused = False
            self._resume()

    def _pause(self) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._body_paused or self._queue_paused:
            return
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    # --- writing ---------------------------------------------------------------------------------------------------

    @override
    def pause_writing(self) -> None:
        self.writing_paused = True

    @override
    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    async def drain(self) -> None:
        """Until the socket takes more. Raises `ConnectionResetError` when the client has gone."""
        while self.writing_paused and not self.gone:
            self._drained = self._loop.create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self.gone:
            raise ConnectionResetError("the client has gone")
