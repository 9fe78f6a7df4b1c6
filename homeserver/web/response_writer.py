"""Writing an answer to the socket: header, compression, chunks.

Owns the bytes on the wire. One answer is one write, which is most of what makes a small request cheap.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import hdrs

from homeserver.runtime.clock import Clock
from homeserver.web import cors, limits
from homeserver.web.http_parser import HTTP_1_0
from homeserver.web.request import RequestInfo
from homeserver.web.response import JSON, Reply, Streamed
from homeserver.web.stream import ClientGone, ClientTimeouts
from homeserver.web.unsent import UnsentAnswers

_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 1  # a third more bytes than level 6 for a quarter of the time
_COMPRESSIBLE = (JSON, "text/", "application/javascript", "image/svg+xml")
_FORBIDDEN_IN_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BODILESS = frozenset({204, 304})
_CORS = "".join(f"{name}: {value}\r\n" for name, value in cors.ON_EVERY_ANSWER)
_PREFLIGHT = "".join(f"{name}: {value}\r\n" for name, value in cors.ON_PREFLIGHT).encode()


class BrokenHeader(Exception):
    """A handler gave a header that would split the answer in two."""


class ResponseWriter:
    """Sends answers; one for the whole process."""

    def __init__(self, clock: Clock, timeouts: ClientTimeouts, *, server: str = "Atrium") -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._server = server
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="gzip")
        self._unsent = UnsentAnswers(clock, limits.UNSENT_TOTAL)
        self._json_heads: dict[int, bytes] = {}  # by status, so at most a few dozen
        self._date = b""
        self._kept = b""
        self._date_second = -1

    def close(self) -> None:
        """Let go of the compressing thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def preflight(self, info: RequestInfo, *, keep_alive: bool) -> int:
        """Answer OPTIONS. Returns the bytes sent."""
        end = self._end(info, keep_alive=keep_alive)
        return await self._write(info, self._head(204, None) + _PREFLIGHT + end)

    async def send(self, info: RequestInfo, reply: Reply, *, keep_alive: bool) -> int:
        """Send a whole answer. Returns the bytes sent. Raises `ClientGone`, `BrokenHeader`."""
        body, extra = reply.body, b""
        if reply.headers:
            extra = _lines(reply.headers)
        if len(body) >= limits.GZIP_FROM and _compressible(reply.content_type, reply.headers):
            extra += b"Vary: Accept-Encoding\r\n"
            if _accepts_gzip(info):
                body = await self._gzip(body)
                extra += b"Content-Encoding: gzip\r\n"
        head = self._head(reply.status, reply.content_type)
        end = self._end(info, keep_alive=keep_alive)
        if reply.status in _BODILESS:
            data, shown = b"".join((head, extra, end)), b""
        else:
            data = b"%bContent-Length: %d\r\n%b%b" % (head, len(body), extra, end)
            shown = b"" if info.method == "HEAD" else body
        if len(shown) < limits.STREAM_CHUNK:
            self._put(info, data + shown)
        else:  # as it is: joined it would be here twice
            self._put(info, data)
            self._put(info, shown)
        if info.connection.writing_paused:
            await self._drained(info)
        return len(data) + len(shown)

    async def stream(self, info: RequestInfo, answer: Streamed, first: bytes, *, keep_alive: bool) -> int:
        """Send an answer while it is made, beginning with the piece that was awaited already.

        Returns the bytes of body sent. Raises `BrokenHeader`, before anything was sent; `ClientGone`;
        and what the iterator raises: then the connection has to be broken off, for the client could not tell a truncated
        body from a whole one.
        """
        squeeze = (
            answer.length is None
            and _compressible(answer.content_type, answer.headers)
            and _accepts_gzip(info)
        )
        chunked = answer.length is None and info.version > HTTP_1_0
        head = self._head(answer.status, answer.content_type) + _lines(answer.headers)
        if squeeze:
            head += b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"
        if answer.length is not None:
            head += b"Content-Length: %d\r\n" % answer.length
        elif chunked:
            head += b"Transfer-Encoding: chunked\r\n"
        await self._write(info, head + self._end(info, keep_alive=keep_alive))
        if info.method == "HEAD":
            return 0
        sent = await self._pieces(info, answer, first, gzip=squeeze, chunked=chunked)
        if chunked:
            await self._write(info, b"0\r\n\r\n")
        return sent

    async def _pieces(
        self, info: RequestInfo, answer: Streamed, first: bytes, *, gzip: bool, chunked: bool
    ) -> int:
        press = zlib.compressobj(_LEVEL, wbits=_GZIP) if gzip else None
        loop = asyncio.get_running_loop()
        sent, waiting, size = 0, [first], len(first)
        async for piece in answer.pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= limits.STREAM_CHUNK:
                data = b"".join(waiting)
                waiting, size = [], 0
                if press is not None:
                    data = await loop.run_in_executor(self._threads, press.compress, data)
                sent += await self._chunk(info, data, chunked=chunked)
        data = b"".join(waiting)
        if press is not None:
            data = press.compress(data) + press.flush()
        return sent + await self._chunk(info, data, chunked=chunked)

    async def _chunk(self, info: RequestInfo, data: bytes, *, chunked: bool) -> int:
        if data:
            await self._write(info, b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        return len(data)

    def _head(self, status: int, content_type: str | None) -> bytes:
        if content_type is JSON and status in self._json_heads:
            return self._json_heads[status]
        kind = f"Content-Type: {_safe(content_type)}\r\n" if content_type and status not in _BODILESS else ""
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nServer: {self._server}\r\n{kind}{_CORS}".encode()
        if content_type is JSON:
            self._json_heads[status] = head
        return head

    def _end(self, info: RequestInfo, *, keep_alive: bool) -> bytes:
        """The last lines of a header, and the empty one."""
        second = self._clock.now_ms() // 1000
        if second != self._date_second:
            self._date_second = second
            self._date = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self._kept = self._date + b"\r\n"
        if not keep_alive:
            return self._date + b"Connection: close\r\n\r\n"
        if info.version <= HTTP_1_0:
            return self._date + b"Connection: keep-alive\r\n\r\n"
        return self._kept

    async def _gzip(self, body: bytes) -> bytes:
        if len(body) < limits.GZIP_IN_THREAD_FROM:
            return zlib.compress(body, _LEVEL, wbits=_GZIP)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: zlib.compress(body, _LEVEL, wbits=_GZIP))

    async def _write(self, info: RequestInfo, data: bytes) -> int:
        self._put(info, data)
        if info.connection.writing_paused:
            await self._drained(info)
        return len(data)

    @staticmethod
    def _put(info: RequestInfo, data: bytes) -> None:
        transport = info.connection.transport
        if transport is None or transport.is_closing():
            raise ClientGone
        transport.write(data)

    async def _drained(self, info: RequestInfo) -> None:
        """The client takes more slowly than we write: it may, but not stand still.

        Of what waits, it has to take `min_rate` bytes per second in every stretch of `stall` seconds; and where all that
        waits is too much for this process, those go first who have taken nothing for longest.
        """
        connection = info.connection
        left = connection.unsent()
        self._unsent.add(connection, left)
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timeouts.stall):
                        return await connection.drain()
                before, left = left, connection.unsent()
                if left > before - self._timeouts.stall * self._timeouts.min_rate:
                    connection.abort()
                    raise ClientGone
        except ConnectionError as error:
            connection.abort()
            raise ClientGone from error
        finally:
            self._unsent.remove(connection)


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{_safe(name)}: {_safe(value)}\r\n" for name, value in headers.items()).encode()


def _safe(text: str) -> str:
    if _FORBIDDEN_IN_HEADER.search(text):
        raise BrokenHeader("a header with control characters")
    return text


def _compressible(content_type: str, headers: Mapping[str, str] | None) -> bool:
    return content_type.startswith(_COMPRESSIBLE) and not (headers and "Content-Encoding" in headers)


def _accepts_gzip(info: RequestInfo) -> bool:
    for coding in info.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        name, _, quality = coding.strip().partition(";")
        if name.strip() == "gzip":
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
