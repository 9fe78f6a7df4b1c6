"""Taking the content coding off a request's body: bounded in bytes, and off the event loop where it is much.

Owns the codings that are understood: gzip and deflate, once. spec: RFC 9110, 8.4
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from homeserver.matrix.errors import BadJson, MatrixError

_WINDOW: Final = {
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_ZLIB_METHOD: Final = 8

INFLATED_HERE: Final = 64 * 1024
"""Bytes that are read or made on the event loop; what is larger goes on in a thread (zlib lets others run meanwhile)."""

MAX_MEMBERS: Final = 16
"""Parts of one gzip body: a file may have several (RFC 1952, 2.2), each one costs a decompressor."""


class UnknownCoding(MatrixError):
    """A content coding that is not understood, or several. RFC 9110, 15.5.16"""

    status = 415
    errcode = "M_UNKNOWN"


class TooMuch(Exception):
    """The body becomes larger than it may."""


def coding_of(header: str) -> str | None:
    """The content coding of a body, None if it is sent as it is. Raises `UnknownCoding`."""
    coding = header.strip().lower()
    if coding in {"", "identity"}:
        return None
    if coding not in _WINDOW:
        error = UnknownCoding("Content-Encoding: neither gzip nor deflate")
        error.headers["Accept-Encoding"] = "gzip, deflate"
        raise error
    return coding


class Inflater:
    """Takes the coding off a body that comes in pieces."""

    __slots__ = ("_coding", "_inner", "_members", "_rest")

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._inner: zlib._Decompress | None = None
        self._members = 0
        self._rest = b""
        """What was fed and is not read yet."""

    def feed(self, data: bytes) -> None:
        """More of the body."""
        self._rest += data

    def read(self, most: int) -> bytes:
        """At most so many bytes; empty if more has to be fed first. Raises `BadJson` for what is not of this coding."""
        try:
            while self._rest:
                if self._inner is None or self._inner.eof:
                    self._inner = self._begin()
                found = self._inner.decompress(self._rest, most)
                self._rest = self._inner.unconsumed_tail or self._inner.unused_data
                if found:
                    return found
        except zlib.error:
            raise BadJson(f"The body is not {self._coding}", status=400) from None
        if self._inner is not None and not self._inner.eof:
            return self._flush(most)
        return b""

    def end(self) -> None:
        """All was fed and read. Raises `BadJson` if something is missing."""
        if self._inner is not None and not self._inner.eof:
            raise BadJson("The body ends too early", status=400)

    def _flush(self, most: int) -> bytes:
        """What zlib holds back when the bytes asked for were made exactly at the end of the input."""
        assert self._inner is not None
        return self._inner.decompress(b"", most)

    def _begin(self) -> zlib._Decompress:
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise BadJson(f"The body has more than {MAX_MEMBERS} compressed parts", status=400)
        window = _WINDOW[self._coding]
        if self._coding == "deflate" and self._rest[0] & 0xF != _ZLIB_METHOD:
            window = _RAW_DEFLATE  # as some clients send it, against RFC 9110
        return zlib.decompressobj(window)


async def inflate(body: bytes, coding: str, most: int) -> bytes:
    """A whole body without its coding. Raises `TooMuch` beyond `most` bytes, `BadJson`."""
    inflater = Inflater(coding)
    inflater.feed(body)
    if len(body) > INFLATED_HERE:
        return await asyncio.to_thread(_all_of, inflater, most)
    pieces: list[bytes] = []
    made = 0
    while made < INFLATED_HERE and (piece := inflater.read(INFLATED_HERE - made)):
        pieces.append(piece)
        made += len(piece)
    if made > most:
        raise TooMuch
    if made == INFLATED_HERE:
        pieces.append(await asyncio.to_thread(_all_of, inflater, most - made))
    else:
        inflater.end()
    return b"".join(pieces)


def _all_of(inflater: Inflater, most: int) -> bytes:
    pieces: list[bytes] = []
    while piece := inflater.read(most + 1):
        most -= len(piece)
        if most < 0:
            raise TooMuch
        pieces.append(piece)
    inflater.end()
    return b"".join(pieces)
