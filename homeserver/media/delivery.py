"""From a file to an answer: headers, ranges, and what a client has already.

spec: client-server-api/#content-repository, #serving-inline-content; RFC 9110 (ranges, conditions)
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

import structlog

from homeserver.matrix.errors import MatrixError, NotFound, Unavailable
from homeserver.media.names import UNKNOWN_TYPE, disposition
from homeserver.media.ports import BlobMissing, BlobStore, BlobStoreAway
from homeserver.web.request import RequestInfo
from homeserver.web.response import Response, Streamed

_log = structlog.get_logger("atrium.media")

# spec: client-server-api/#content-repository, CHECKLIST MEDIA-05
POLICY: Final = (
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; "
    "media-src 'self'; object-src 'self';"
)
SAFE: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow, noarchive, noimageindex",
}
"""On every answer that is somebody's file, a thumbnail too."""
_KEPT = "private, max-age=86400"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class RangeNotSatisfiable(MatrixError):
    """The part of a file that was asked for is none."""

    status = 416
    errcode = "M_UNKNOWN"


def deliver(
    blobs: BlobStore,
    info: RequestInfo,
    key: str,
    size: int,
    tag: str,
    *,
    content_type: str,
    filename: str | None,
) -> Response | Streamed:
    """The answer to a request for a blob of `size` bytes. `tag`: the same only for the same bytes.

    Raises `RangeNotSatisfiable`; the pieces raise `NotFound`, `Unavailable` before the first one.
    """
    etag = f'"{tag}"'
    headers = {
        **SAFE,
        "Content-Disposition": disposition(content_type, filename),
        "ETag": etag,
        "Cache-Control": _KEPT,
        "Accept-Ranges": "bytes",
    }
    if _has(info.headers.get("If-None-Match"), etag):
        return Response(status=304, headers=headers)
    part = None
    if info.method == "GET" and _unchanged(info.headers.get("If-Range"), etag):
        part = part_asked(info.headers.get("Range"), size)
    start, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Streamed(
        pieces_of(blobs, key, start, end),
        content_type=content_type or UNKNOWN_TYPE,
        length=end - start,
        status=200 if part is None else 206,
        headers=headers,
    )


def part_asked(told: str | None, size: int) -> tuple[int, int] | None:
    """The part of `size` bytes that a `Range` header asks for, as (start, end); None: all of it.

    Several ranges, other units and what is malformed are answered with the whole (RFC 9110, 14.2). Raises
    `RangeNotSatisfiable`.
    """
    match = None if told is None else _RANGE.fullmatch(told.strip().replace(" ", ""))
    if match is None or (not match[1] and not match[2]):
        return None
    if match[1]:
        start = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(size - int(match[2]), 0), size
    if start >= end:
        error = RangeNotSatisfiable(f"The file has {size} bytes")
        error.headers["Content-Range"] = f"bytes */{size}"
        raise error
    return start, end


def _has(told: str | None, etag: str) -> bool:
    if told is None:
        return False
    return told.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in told.split(","))


def _unchanged(told: str | None, etag: str) -> bool:
    return told is None or told.strip() == etag


async def pieces_of(blobs: BlobStore, key: str, start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a blob. Raises `NotFound`, `Unavailable` before the first one."""
    pieces = blobs.read(key, start, end)
    try:
        async for piece in pieces:
            yield piece
    except BlobMissing:
        _log.error("media_blob_missing", key=key)  # the sentence says it all
        raise NotFound("There is no such file") from None
    except BlobStoreAway as error:
        _log.error("media_not_read", error=str(error))  # the sentence says it all
        raise Unavailable("Files cannot be read at the moment") from error
    finally:
        if (close := getattr(pieces, "aclose", None)) is not None:
            await close()
