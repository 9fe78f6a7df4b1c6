"""aiohttp's HTTP/1 request parser (llhttp, in C), behind what this server needs of it.

Owns every assumption about aiohttp on the serving side: `tests/unit/web/test_http_parser.py` states them, and fails when a
new version of aiohttp behaves differently (docs/decisions/0011-own-connections.md).

spec: RFC 9112
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from aiohttp import EMPTY_PAYLOAD, ClientPayloadError, HttpVersion, HttpVersion10, StreamReader, hdrs
from aiohttp.http import HttpProcessingError, HttpRequestParser, RawRequestMessage
from aiohttp.web_protocol import RequestPayloadError
from multidict import CIMultiDict, CIMultiDictProxy

from homeserver.web import limits

RequestHead = RawRequestMessage
"""Method, target, version and header fields of a request."""
RequestBody = StreamReader
"""What follows the head, with the transfer coding taken off and the content coding left on."""
NO_BODY: Final[StreamReader] = EMPTY_PAYLOAD
HTTP_1_0: Final[HttpVersion] = HttpVersion10

BODY_ERRORS: Final = (RequestPayloadError, ClientPayloadError)
"""What reading a body raises whose framing is broken."""

_ONE_AT_A_TIME: Final = 1
"""Messages parsed by one call: what is broken behind a whole request must not take it away."""


class NotHttp(Exception):
    """What came is no HTTP; where the next request would begin nobody can tell."""


class FlowControl(Protocol):
    """The connection, as bodies see it: they ask for more and for less."""

    @property
    def connected(self) -> bool: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


class RequestParser:
    """Turns the bytes of one connection into requests, at most one for each call of `feed`."""

    __slots__ = ("_ascii", "_parser", "ended")

    def __init__(self, connection: FlowControl, loop: asyncio.AbstractEventLoop) -> None:
        self._parser = HttpRequestParser(
            connection,  # type: ignore[arg-type]  # its own BaseProtocol; of it, bodies call what `FlowControl` has
            loop,
            limits.READ_BUFFER,
            max_line_size=limits.MAX_REQUEST_LINE,
            max_field_size=limits.MAX_HEADER_FIELD,
            max_headers=limits.MAX_HEADERS,
            payload_exception=RequestPayloadError,
            auto_decompress=False,  # bounded and off the event loop: `inflate.py`
            max_msg_queue_size=_ONE_AT_A_TIME,
        )
        self._ascii = True
        """Nothing but ASCII has come so far."""
        self.ended = False
        """No further request can be read: another protocol was asked for, or what came is no HTTP."""

    def feed(self, data: bytes) -> Sequence[tuple[RequestHead, RequestBody]]:
        """The request that begins in `data` or in what an earlier call has left, if its head is complete. Call it with
        `b""` for the next one. Raises `NotHttp`.
        """
        if self.ended:
            return ()
        if self._ascii:
            self._ascii = data.isascii()
        try:
            found, self.ended, _ = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self.ended = True
            raise NotHttp from error
        return found

    def pause(self) -> None:
        """Parse no more of the body under way until `feed` is called again."""
        self._parser.pause_reading()

    def headers(self, head: RequestHead) -> CIMultiDictProxy[str]:
        """The header fields as text that can be encoded: bytes that are no UTF-8 are U+FFFD (RFC 9110, 5.5: opaque data)."""
        headers: CIMultiDictProxy[str] = head.headers
        if self._ascii or all(value.isascii() for value in headers.values()):
            return headers
        told = CIMultiDict[str]()
        for name, value in headers.items():
            told.add(name, value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        return CIMultiDictProxy(told)


def content_length(headers: CIMultiDictProxy[str]) -> int | None:
    """What `Content-Length` says, if anything: the parser has seen that it is digits whose value fits 64 bits, but leading
    zeros may be more than `int` reads.
    """
    told = headers.get(hdrs.CONTENT_LENGTH)
    if told is None:
        return None
    return int(told) if len(told) < _MANY_DIGITS else int(told.lstrip("0") or "0")


_MANY_DIGITS: Final = 1000
