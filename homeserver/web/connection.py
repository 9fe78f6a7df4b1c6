"""One connection: its requests one after another, in one task.

Owns the protocol between the socket and the dispatcher. HTTP itself is aiohttp's parser, behind `http_parser.py`; aiohttp's own
server around it costs as much again for each request as everything else here (docs/decisions/0011-own-connections.md).

spec: client-server-api/#api-standards; RFC 9112
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from collections import deque
from typing import Final, Protocol, cast

import structlog
from multidict import CIMultiDictProxy
from typing_extensions import override

from homeserver.web import cors, limits
from homeserver.web.http_parser import (
    BODY_ERRORS,
    NO_BODY,
    NotHttp,
    RequestBody,
    RequestHead,
    RequestParser,
    content_length,
)

_log = structlog.get_logger("atrium.web")

_UNKNOWN: Final = 1 << 62
"""Bytes behind a request of which nobody knows where it ends."""
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

    async def answer(self, connection: Connection, message: RequestHead, content: RequestBody) -> bool:
        """Answer a request; whether the connection can carry another one."""
        ...

    def opened(self, connection: Connection) -> bool:
        """Whether there is room for it."""
        ...

    def closed(self, connection: Connection) -> None: ...

    steers: bool
    """Whether connections may be moved to other processes."""

    def move(self, connection: Connection) -> None:
        """Move it to another process if it is between two requests."""
        ...


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
        "away",
        "handed",
        "_moved",
        "_beyond",
        "_owner",
        "_loop",
        "_parser",
        "_requests",
        "_waiter",
        "_drained",
        "_body",
        "_last",
        "_ended_by_client",
        "_deadline",
        "_begun",
        "_timer",
        "_body_paused",
        "_queue_paused",
    )

    def __init__(self, owner: ConnectionOwner, *, handed: bool = False, moved: bool = False) -> None:
        """`handed`: another process has accepted it; `moved`: and has answered requests on it."""
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
        self.away = False
        """See `steering.Movable`."""
        self.handed = handed or moved
        self._moved = moved
        self._beyond = 0
        """Bytes that came after the last request; less than 0: so many of its body have not come."""
        self._owner = owner
        self._loop = loop
        self._parser = RequestParser(self, loop)
        self._requests: deque[tuple[RequestHead | None, RequestBody]] = deque()
        """What came in and is not answered; None: what is no HTTP."""
        self._waiter: asyncio.Future[None] | None = None
        """The task waits for the next request."""
        self._drained: asyncio.Future[None] | None = None
        self._body: RequestBody = NO_BODY
        """Of the request that is being answered."""
        self._last = False
        """After the request under way there is no other."""
        self._ended_by_client = False
        """The other end sends nothing any more, and may still want its answers."""
        self._deadline = 0.0
        """When the connection is closed if no request has come by then."""
        self._begun = True
        """The deadline is that of a request that has begun to come."""
        self._timer: asyncio.TimerHandle | None = None
        self._body_paused = self._queue_paused = False

    def headers(self, message: RequestHead) -> CIMultiDictProxy[str]:
        """See `RequestParser.headers`."""
        return self._parser.headers(message)

    # --- the life of a connection ----------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)
        keep_alive(transport)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if isinstance(peer, tuple) else ""
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        if not self._owner.opened(self):
            transport.abort()  # without a word: an answer would cost what there is none left of
            return
        if self._moved:
            self._begun = False
            self._set_deadline(self._owner.keepalive)
        else:
            self._set_deadline(min(limits.HEADER_SECONDS, self._owner.keepalive))
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
                self._loop.call_later(limits.LINGER_SECONDS, self._cut_if_standing, self.unsent())

    def _cut_if_standing(self, before: int) -> None:
        """End a connection that is being closed and of whose last answer too little was fetched since."""
        if self.transport is None:
            return
        now = self.unsent()
        if now > before - limits.LINGER_SECONDS * limits.MIN_RATE:
            self.abort()
        else:
            self._loop.call_later(limits.LINGER_SECONDS, self._cut_if_standing, now)

    async def _next(self) -> bool:
        """Wait for a request; False if there will be none."""
        while not self._requests:
            if self._last or self.gone:
                return False
            self._feed(b"")  # what the parser has kept
            if self._requests:
                break
            if self._ended_by_client or self._parser.ended:
                return False
            self._read_on()
            if self.away:
                self._loop.call_soon(
                    self._owner.move, self
                )  # what was answered leaves at the end of this turn
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return not self._last

    async def _answer_one(self) -> bool:
        message, self._body = self._requests.popleft()
        if not self._requests:
            self._read_on()  # its body may not be here yet
        if message is None:
            if self.transport is not None:
                self.transport.write(_REFUSAL)
            return False
        if not self._body.is_eof():
            if self._ended_by_client:
                return False  # the rest of it will never come
            self._read_on()
        again = await self._owner.answer(self, message, self._body)
        if not self._body.is_eof():
            again = await self._read_the_rest() and again
        self._body = NO_BODY
        self._deadline, self._begun = self._loop.time() + self._owner.keepalive, False
        return again and not self._last and not self.gone

    async def _read_the_rest(self) -> bool:
        """Of a body that was answered before it was read; whether there is another request behind it."""
        try:
            async with asyncio.timeout(limits.LINGER_SECONDS):
                while not self._body.is_eof():
                    await self._body.readany()
        except (TimeoutError, ConnectionError, *BODY_ERRORS):
            return False
        return True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_deadline(self, seconds: float) -> None:
        """The next request has to be there by then."""
        self._deadline = self._loop.time() + seconds
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)

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
        if self._parser.ended or (self._last and self._body.is_eof()):
            return
        before = len(self._requests)
        self._feed(data)
        if self._owner.steers:
            self._beyond = self._beyond + len(data) if len(self._requests) == before else self._after(data)
        waiter = self._waiter
        if waiter is None:
            if self._requests and not self._queue_paused:  # they come faster than they are answered
                self._queue_paused = True
                self._pause()
        elif self._requests:
            if not waiter.done():
                waiter.set_result(None)
        elif not self._begun:
            self._begun = True
            self._set_deadline(limits.HEADER_SECONDS)

    def _feed(self, data: bytes) -> None:
        try:
            self._requests.extend(self._parser.feed(data))
        except NotHttp:
            self._requests.append((None, NO_BODY))

    def _after(self, data: bytes) -> int:
        """How many bytes of `data` lie behind the request whose head ends in it, as `_beyond`."""
        message = self._requests[-1][0]
        end = data.find(b"\r\n\r\n")
        if message is None or message.chunked or end < 0:
            return _UNKNOWN
        return len(data) - end - 4 - (content_length(message.headers) or 0)

    @property
    def movable(self) -> bool:
        """See `steering.Movable`."""
        transport, waiter = self.transport, self._waiter
        if transport is None or waiter is None or waiter.done() or self._begun or self._beyond:
            return False
        if (
            self._requests
            or self._last
            or self._ended_by_client
            or self._parser.ended
            or self.scheme == "https"
        ):
            return False
        return not transport.is_closing() and not transport.get_write_buffer_size()

    def descriptor(self) -> int:
        """See `steering.Movable`."""
        assert self.transport is not None
        return int(self.transport.get_extra_info("socket").fileno())

    @override
    def eof_received(self) -> bool:
        """The other end has closed its half, as `shutdown` does (and a browser that has gone). What it asked for before is
        answered if that is soon; then nobody may be there any more (RFC 9112, 9.6).
        """
        self._ended_by_client = True
        idle = self.task is None or (self._waiter is not None and not self._requests)
        if idle or self.scheme == "https":  # TLS knows no half of a connection
            return False
        if not self._body.is_eof():
            self._body.set_exception(ConnectionResetError("the client has gone"))
        self._loop.call_later(limits.HALF_CLOSED_SECONDS, self._give_up)
        return True

    def _give_up(self) -> None:
        if self.interruptible:
            self.abort()
        else:
            self.finish()

    @property
    def connected(self) -> bool:
        """Asked by aiohttp's `StreamReader`."""
        return self.transport is not None

    def pause_reading(self) -> None:
        """Called by aiohttp's `StreamReader`: more of a body has come than anybody has read."""
        self._body_paused = True
        self._parser.pause()
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
        """All that came was taken, but for what a body waits for."""
        if self._queue_paused:
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

    def unsent(self) -> int:
        """Bytes of answers that the other end has not taken: those that wait here and, where the system tells, in its socket."""
        if self.transport is None:
            return 0
        size = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                size += struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]
        return size


def keep_alive(transport: asyncio.Transport) -> None:
    """Let the system find out whether the other end is still there."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
