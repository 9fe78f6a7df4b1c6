"""Reading what another server answers: bounded in bytes as they come and as they are when unpacked, and in values.

Owns the reading; whoever asked sets the bounds. Answers are unpacked here and not by the HTTP library, which would make
megabytes of a kilobyte before anybody could look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import aiohttp
import msgspec
from aiohttp import hdrs

from federation.ports import BadAnswer
from federation.transport.faults import translated
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import ServerName
from homeserver.web.inflate import Inflater, coding_of
from homeserver.web.limits import KIB, MAX_VALUES, MIB

A = TypeVar("A")

ACCEPTED_CODINGS: Final = "gzip, deflate"
PIECE: Final = 64 * KIB
"""Bytes unpacked at a time."""
_OTHERS_EVERY: Final = MIB
"""Bytes unpacked before others have a turn."""
_BYTES_A_VALUE: Final = 16
"""An honest answer has at most one value in so many bytes it may have."""
ERROR_BYTES: Final = 64 * KIB
"""Of an answer that says no."""


async def pieces(
    destination: ServerName, response: aiohttp.ClientResponse, max_bytes: int
) -> AsyncIterator[bytes]:
    """The body, unpacked. Raises `BadAnswer` beyond `max_bytes`, or where it is not of the coding it claims;
    `Unreachable` where it ends too early.
    """
    if (response.content_length or 0) > max_bytes:
        raise BadAnswer(destination, f"more than {max_bytes} bytes")
    inflater = _inflater(destination, response)
    size = packed = 0
    async for piece in _received(destination, response):
        packed += len(piece)
        if packed > max_bytes:
            raise BadAnswer(destination, f"more than {max_bytes} bytes")
        if inflater is None:
            yield piece
            continue
        inflater.feed(piece)
        since = 0
        while made := _unpack(destination, inflater):
            size += len(made)
            since += len(made)
            if size > max_bytes:
                raise BadAnswer(destination, f"more than {max_bytes} bytes when unpacked")
            yield made
            if since >= _OTHERS_EVERY:
                since = 0
                await asyncio.sleep(0)
    if inflater is not None:
        _end(destination, inflater)


async def whole(destination: ServerName, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """All of it. Raises as `pieces`."""
    return b"".join([piece async for piece in pieces(destination, response, max_bytes)])


def decode(destination: ServerName, body: bytes, max_bytes: int, kind: type[A]) -> A:
    """JSON as a type. Raises `BadAnswer`: not JSON, another shape, nested too deeply, or more values than anybody needs.

    `max_bytes`: what was allowed to come; it says how many values may.
    """
    values = body.count(b",") + body.count(b"[") + body.count(b"{")
    if values > max(MAX_VALUES, max_bytes // _BYTES_A_VALUE):
        raise BadAnswer(destination, "more values than can be read")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise BadAnswer(destination, f"not the answer that is specified: {error}"[:300]) from None
    except (ValueError, RecursionError):
        raise BadAnswer(destination, "not JSON") from None


async def _received(destination: ServerName, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    while True:
        with translated(destination):
            piece = await response.content.readany()
        if not piece:
            return
        yield piece


def _inflater(destination: ServerName, response: aiohttp.ClientResponse) -> Inflater | None:
    try:
        coding = coding_of(response.headers.get(hdrs.CONTENT_ENCODING, ""))
    except MatrixError:
        raise BadAnswer(destination, "a content coding that was not asked for") from None
    return None if coding is None else Inflater(coding)


def _unpack(destination: ServerName, inflater: Inflater) -> bytes:
    try:
        return inflater.read(PIECE)
    except MatrixError as error:
        raise BadAnswer(destination, error.error) from None


def _end(destination: ServerName, inflater: Inflater) -> None:
    try:
        inflater.end()
    except MatrixError as error:
        raise BadAnswer(destination, error.error) from None


class StandardError(msgspec.Struct):
    """spec: client-server-api/#standard-error-response. Fields may be anything, since others write them."""

    errcode: Any = None
    error: Any = None


def standard_error(body: bytes) -> tuple[str, str]:
    """(errcode, sentence) of an answer that says no; `M_UNKNOWN` where it says none."""
    try:
        told = msgspec.json.decode(body, type=StandardError)
    except (ValueError, RecursionError):
        told = StandardError()
    errcode = told.errcode if isinstance(told.errcode, str) else "M_UNKNOWN"
    return errcode[:255], told.error if isinstance(told.error, str) else ""
