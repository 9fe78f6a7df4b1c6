"""A lean HTTP/1.1 client: the load generator shares its two cores with the server it measures.

One `Connection` is one keep-alive socket with one request in flight. Requests are made ready as bytes beforehand;
of an answer only the status, the length and the body are looked at. No redirects, no compression, no pipelining.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import msgspec
from typing_extensions import override

LARGEST_ANSWER = 512 * 1024 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class RequestFailed(Exception):
    """An answer that a measured operation may not have: a benchmark with errors in it measures something else."""


@dataclass(slots=True, frozen=True)
class Response:
    """An answer: status, body, and the seconds from the first byte written to the last one read."""

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class Target:
    """Where a homeserver listens."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, url: str) -> Target:
        """`http://127.0.0.1:8008` or `https://example.org`."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not an http or https address: {url}")
        tls = parts.scheme == "https"
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls)

    def request(self, method: str, path: str, *, token: str | None = None, body: object = None) -> bytes:
        """One request as the bytes that go over the wire; `body` is serialised as JSON unless it is bytes or None."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        payload = b""
        if body is not None:
            payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
            lines.append("Content-Type: application/json")
        if payload or method != "GET":
            lines.append(f"Content-Length: {len(payload)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + payload


class Connection(asyncio.Protocol):
    """One keep-alive connection; opened when first used, and again when the server closed it between requests."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[Response] | None = None
        self._started = 0.0
        self._body: _Body | None = None

    async def send(self, request: bytes) -> Response:
        """Send prepared bytes, answer whatever comes back. Raises ConnectionError when the connection breaks."""
        assert self._answer is None, "one request at a time"
        if self._transport is None or self._transport.is_closing():
            await self._open()
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._started = time.perf_counter()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            if (
                not self._answer.done() or self._answer.cancelled()
            ):  # nobody waits for the rest of this answer
                self.close()
            self._answer = None

    async def succeed(self, request: bytes) -> Response:
        """As `send`, but an answer other than 200 raises RequestFailed."""
        response = await self.send(request)
        if response.status != 200:
            line = request[: request.index(b"\r\n")].decode()
            raise RequestFailed(f"{line}: {response.status} {response.body[:300]!r}")
        return response

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _open(self) -> None:
        context = ssl.create_default_context() if self.target.tls else None
        self._buffer.clear()
        self._body = None
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self.target.host, self.target.port, ssl=context)

    # asyncio.Protocol

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._body is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._body = _Body(bytes(self._buffer[: end + 2]), end + 4)
        if self._body.complete(self._buffer):
            self._finish(self._body)

    def _finish(self, body: _Body) -> None:
        content = body.content(self._buffer)
        self._buffer.clear()
        self._body = None
        if body.closes and self._transport is not None:
            self._transport.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Response(body.status, content, time.perf_counter() - self._started))


class _Body:
    """Where the body of the answer in the buffer begins and ends; knows lengths and chunks."""

    def __init__(self, head: bytes, start: int) -> None:
        self.status = int(head[9:12])
        self.closes = _CLOSE.search(head) is not None
        self._start = self._at = start
        self._chunks: list[tuple[int, int]] | None = [] if _CHUNKED.search(head) else None
        length = _LENGTH.search(head)
        if length is None and self._chunks is None and self.status not in {204, 304}:
            raise RequestFailed(f"an answer without a length: {head[:200]!r}")
        self._length = int(length[1]) if length else 0

    def complete(self, buffer: bytearray) -> bool:
        if len(buffer) > LARGEST_ANSWER:
            raise RequestFailed(f"an answer larger than {LARGEST_ANSWER} bytes")
        if self._chunks is None:
            return len(buffer) >= self._start + self._length
        while True:
            end = buffer.find(b"\r\n", self._at)
            if end < 0:
                return False
            size = int(bytes(buffer[self._at : end]).split(b";")[0], 16)
            if len(buffer) < end + 2 + size + 2:
                return False
            self._at = end + 2 + size + 2
            if size == 0:
                return True
            self._chunks.append((end + 2, end + 2 + size))

    def content(self, buffer: bytearray) -> bytes:
        if self._chunks is None:
            return bytes(buffer[self._start : self._start + self._length])
        return b"".join(bytes(buffer[begin:end]) for begin, end in self._chunks)
