"""Reading a request's body: bounded in bytes and in time.

Owns `read_body` (whole) and `BodyStream` (in pieces, for uploads). What the bytes mean is `body.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import hdrs

from homeserver.matrix.errors import BadJson, MatrixError, TooLarge
from homeserver.runtime.turns import next_turn
from homeserver.web import limits
from homeserver.web.http_parser import BODY_ERRORS, RequestBody
from homeserver.web.inflate import INFLATED_HERE, Inflater, TooMuch, coding_of, inflate
from homeserver.web.request import RequestInfo


@dataclass(frozen=True, slots=True)
class ClientTimeouts:
    """How long we wait for a client that is slow to send or to take."""

    stall: float = 30.0
    """Seconds without a byte, in either direction."""
    body: float = 60.0
    """Seconds for a whole JSON body, and for the first part of a streamed one."""
    min_rate: int = limits.MIN_RATE
    """Bytes per second: of a streamed body on average once `body` has passed, of an answer in every stretch of `stall`."""


class BodyTimeout(MatrixError):
    """The body did not arrive in time."""

    status = 408
    errcode = "M_UNKNOWN"


class ClientGone(Exception):
    """The connection broke while we read; nobody is there to be answered."""


class BodyStream:
    """A body that is taken in pieces: `async for piece in stream`.

    Raises `TooLarge` while iterating once it exceeds the endpoint's `max_body`, as sent or without its content coding;
    `BodyTimeout` when it stalls; `UnknownCoding`.
    """

    __slots__ = ("_coding", "_info", "_limit", "_timeouts", "content_type", "declared_length", "received")

    def __init__(self, info: RequestInfo, limit: int, timeouts: ClientTimeouts) -> None:
        self._info = info
        self._limit = limit
        self._timeouts = timeouts
        self._coding = coding_of(info.headers.get(hdrs.CONTENT_ENCODING, ""))
        self.declared_length: int | None = info.content_length
        """What `Content-Length` says, if anything; already checked against the limit."""
        self.content_type: str = info.headers.get(hdrs.CONTENT_TYPE, "")
        """As sent, with parameters; empty if not sent."""
        self.received = 0
        """Bytes so far, as sent."""

    def narrow(self, limit: int) -> None:
        """Accept no more than `limit` bytes: what the configuration allows. Raises `TooLarge` if more is announced."""
        self._limit = min(self._limit, limit)
        check_declared_length(self._info, self._limit)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._coding is None:
            async for piece in self._sent():
                yield piece
            return
        inflater, made = Inflater(self._coding), 0
        async for piece in self._sent():
            inflater.feed(piece)
            while found := inflater.read(INFLATED_HERE):
                made += len(found)
                if made > self._limit:
                    raise too_large(self._limit)
                yield found
                await next_turn()  # of few bytes many may be made
        inflater.end()

    async def _sent(self) -> AsyncIterator[bytes]:
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
    """The whole body without its content coding. Raises `TooLarge`, `BodyTimeout`, `ClientGone`, `UnknownCoding`, `BadJson`."""
    payload = info.content
    if payload.at_eof():
        return b""
    check_declared_length(info, limit)
    told = info.headers.get(hdrs.CONTENT_ENCODING)
    coding = coding_of(told) if told is not None else None
    _say_continue(info)
    body = await _read_all(payload, limit, timeouts)
    if coding is None or not body:
        return body
    try:
        return await inflate(body, coding, limit)
    except TooMuch:
        raise too_large(limit) from None


async def _read_all(payload: RequestBody, limit: int, timeouts: ClientTimeouts) -> bytes:
    pieces: list[bytes] = []
    size = 0
    if payload.is_eof():  # small bodies arrive together with their header
        whole = _take(payload)
        size = len(whole)
        if payload.at_eof():
            if size > limit:
                raise too_large(limit)
            return whole
        pieces.append(whole)
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


def _take(payload: RequestBody) -> bytes:
    try:
        return payload.read_nowait()
    except BODY_ERRORS as error:
        raise _broken(payload, error) from error
    except ConnectionError as error:
        raise ClientGone from error


async def _read_some(payload: RequestBody, stall: float) -> bytes:
    try:
        async with asyncio.timeout(stall):
            return await payload.readany()
    except TimeoutError:
        raise BodyTimeout("The body did not arrive in time") from None
    except BODY_ERRORS as error:
        raise _broken(payload, error) from error
    except ConnectionError as error:
        raise ClientGone from error


def _broken(payload: RequestBody, error: Exception) -> Exception:
    # aiohttp says so both of a body that ends too early and of one whose encoding is broken. It would go on to read what
    # is left of it after the answer, and log a traceback when that fails again: there is nothing left.
    payload.feed_eof()
    return BadJson(f"The body could not be read: {type(error).__name__}", status=400)


def _say_continue(info: RequestInfo) -> None:
    told = info.headers.get(hdrs.EXPECT)
    if told is not None and told.lower() == "100-continue" and info.connection.transport is not None:
        info.connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
