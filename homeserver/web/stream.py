"""Reading a request's body: bounded in bytes and in time.

Owns `read_body` (whole) and `BodyStream` (in pieces, for uploads). What the bytes mean is `body.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import ClientPayloadError, StreamReader, hdrs
from aiohttp.web_protocol import RequestPayloadError

from homeserver.matrix.errors import BadJson, MatrixError, TooLarge
from homeserver.web.request import RequestInfo


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """How long we wait for a client that is slow to send or to take."""

    stall: float = 30.0
    """Seconds without a byte, in either direction."""
    body: float = 60.0
    """Seconds for a whole JSON body, and for the first part of a streamed one."""
    min_rate: int = 1024
    """Bytes per second that a streamed body must reach on average once `body` has passed."""


class BodyTimeout(MatrixError):
    """The body did not arrive in time."""

    status = 408
    errcode = "M_UNKNOWN"


class ClientGone(Exception):
    """The connection broke while we read; nobody is there to be answered."""


class BodyStream:
    """A body that is taken in pieces: `async for piece in stream`.

    Raises `TooLarge` while iterating once it exceeds the endpoint's `max_body`; `BodyTimeout` when it stalls.
    """

    __slots__ = ("_info", "_limit", "_timeouts", "content_type", "declared_length", "received")

    def __init__(self, info: RequestInfo, limit: int, timeouts: ClientTimeouts) -> None:
        self._info = info
        self._limit = limit
        self._timeouts = timeouts
        self.declared_length: int | None = info.content_length
        """What `Content-Length` says, if anything; already checked against the limit."""
        self.content_type: str = info.headers.get(hdrs.CONTENT_TYPE, "")
        """As sent, with parameters; empty if not sent."""
        self.received = 0
        """Bytes so far."""

    def narrow(self, limit: int) -> None:
        """Accept no more than `limit` bytes: what the configuration allows. Raises `TooLarge` if more is announced."""
        self._limit = min(self._limit, limit)
        check_declared_length(self._info, self._limit)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        payload = self._info.content
        loop = asyncio.get_running_loop()
        begun = loop.time()
        _say_continue(self._info)
        while piece := await _read_some(payload, self._timeouts.stall):
            self.received += len(piece)
            if self.received > self._limit:
                raise too_large(self._limit)
            elapsed = loop.time() - begun
            if elapsed > self._timeouts.body and self.received < elapsed * self._timeouts.min_rate:
                raise BodyTimeout("The body arrives too slowly")
            yield piece


def check_declared_length(info: RequestInfo, limit: int) -> None:
    """Refuse by `Content-Length`, before a byte is read. Raises `TooLarge`."""
    length = info.content_length
    if length is not None and length > limit:
        raise too_large(limit)


async def read_body(info: RequestInfo, limit: int, timeouts: ClientTimeouts) -> bytes:
    """The whole body, decompressed. Raises `TooLarge`, `BodyTimeout`, `ClientGone`."""
    payload = info.content
    if payload.at_eof():
        return b""
    check_declared_length(info, limit)
    _say_continue(info)
    if payload.is_eof():  # small bodies arrive together with their header
        whole = _take(payload)
        if payload.at_eof():
            if len(whole) > limit:
                raise too_large(limit)
            return whole
        pieces = [whole]
    else:
        pieces = []
    size = sum(map(len, pieces))
    try:
        async with asyncio.timeout(timeouts.body):
            while piece := await _read_some(payload, timeouts.stall):
                size += len(piece)
                if size > limit:
                    raise too_large(limit)
                pieces.append(piece)
    except TimeoutError:
        raise BodyTimeout("The body did not arrive in time") from None
    return b"".join(pieces)


def too_large(limit: int) -> TooLarge:
    """The refusal, with the limit in words."""
    return TooLarge(f"The body is larger than the {limit} bytes accepted here")


def _take(payload: StreamReader) -> bytes:
    try:
        return payload.read_nowait()
    except (RequestPayloadError, ClientPayloadError) as error:
        raise _broken(payload, error) from error
    except ConnectionError as error:
        raise ClientGone from error


async def _read_some(payload: StreamReader, stall: float) -> bytes:
    try:
        async with asyncio.timeout(stall):
            return await payload.readany()
    except TimeoutError:
        raise BodyTimeout("The body did not arrive in time") from None
    except (RequestPayloadError, ClientPayloadError) as error:
        raise _broken(payload, error) from error
    except ConnectionError as error:
        raise ClientGone from error


def _broken(payload: StreamReader, error: Exception) -> Exception:
    # aiohttp says so both of a body that ends too early and of one whose encoding is broken. It would go on to read what
    # is left of it after the answer, and log a traceback when that fails again: there is nothing left.
    payload.feed_eof()
    return BadJson(f"The body could not be read: {type(error).__name__}", status=400)


def _say_continue(info: RequestInfo) -> None:
    told = info.headers.get(hdrs.EXPECT)
    if told is not None and told.lower() == "100-continue" and info.connection.transport is not None:
        info.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
