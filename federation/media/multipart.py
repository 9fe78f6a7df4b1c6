"""Reading `multipart/mixed` while it comes: two parts, each with a small head; the second is passed on in pieces.

spec: op:getContent (server-server); RFC 2046, 5.1
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Final, NamedTuple

MAX_HEAD: Final = 16 * 1024
"""Bytes of the head of a part."""
MAX_FIRST: Final = 64 * 1024
"""Bytes of the first part, which says what is not said of files yet, and of what stands before it."""
_BOUNDARY: Final = re.compile(
    r"""multipart/mixed\s*;(?:[^"]*;)?\s*boundary=(?:"([^"\r\n]{1,200})"|([^\s;"]{1,200}))\s*(?:;.*)?""",
    re.IGNORECASE | re.ASCII,
)


class Malformed(Exception):
    """It is no `multipart/mixed` of two parts; the text is fit for a log."""


class Part(NamedTuple):
    """The second part."""

    headers: Mapping[str, str]
    """Names in lower case."""
    pieces: AsyncIterator[bytes]


async def second_part(content_type: str, pieces: AsyncIterator[bytes]) -> Part:
    """The part that has the file, up to whose body everything has been read. Raises `Malformed`, also while it is read."""
    reader = _Reader(pieces, boundary_of(content_type))
    await reader.begin()
    await reader.head()
    await reader.skip_body()
    headers = await reader.head()
    return Part(headers, reader.body())


def boundary_of(content_type: str) -> bytes:
    """What separates the parts. Raises `Malformed`."""
    found = _BOUNDARY.fullmatch(content_type.strip()[:1_000])
    if found is None:
        raise Malformed("no multipart/mixed with a boundary")
    return (found[1] or found[2]).encode()


class _Reader:
    """Reads from a stream what is not passed on; holds some kilobytes."""

    def __init__(self, pieces: AsyncIterator[bytes], boundary: bytes) -> None:
        self._pieces = pieces
        self._delimiter = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")  # the first delimiter may stand at the very beginning
        self._ended = False

    async def begin(self) -> None:
        """Past the first delimiter."""
        await self._past(self._delimiter, MAX_FIRST)

    async def head(self) -> dict[str, str]:
        """The head of a part, after its delimiter."""
        line = await self._past(b"\r\n", MAX_HEAD)
        if line.strip(b" \t"):
            raise Malformed("fewer parts than there should be" if line[:2] == b"--" else "no delimiter")
        headers: dict[str, str] = {}
        left = MAX_HEAD
        while line := await self._past(b"\r\n", left):
            left -= len(line)
            name, colon, value = line.partition(b":")
            if not colon:
                raise Malformed("a head that is none")
            headers[name.strip().lower().decode("latin-1")] = value.strip().decode("utf-8", "replace")
        return headers

    async def skip_body(self) -> None:
        """Past the delimiter that ends a part."""
        # A part without a body ends with the line break that ends its head.
        self._held[:0] = b"\r\n"
        await self._past(self._delimiter, MAX_FIRST)

    async def body(self) -> AsyncIterator[bytes]:
        """The body of a part, up to the delimiter that ends it."""
        self._held[:0] = b"\r\n"
        first = True
        while True:
            at = self._held.find(self._delimiter)
            whole = at >= 0
            end = at if whole else max(0, len(self._held) - len(self._delimiter) + 1)
            if end > (2 if first else 0):
                yield bytes(self._held[2 if first else 0 : end])
                del self._held[:end]
                first = False
            if whole:
                return
            if not await self._more():
                raise Malformed("it ends too early")

    async def _past(self, mark: bytes, most: int) -> bytes:
        """What stands before a mark; goes on after it."""
        while (at := self._held.find(mark)) < 0:
            if len(self._held) > most:
                raise Malformed("a head that does not end")
            if not await self._more():
                raise Malformed("it ends too early")
        if at > most:
            raise Malformed("a head that is too long")
        found = bytes(self._held[:at])
        del self._held[: at + len(mark)]
        return found

    async def _more(self) -> bool:
        piece = await anext(self._pieces, None)
        if piece is None:
            return False
        self._held += piece
        return True
