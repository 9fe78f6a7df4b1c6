"""What a handler can return besides a Struct or dict, and how each becomes status, headers and bytes.

Owns the answer types. Writing to the socket is `writer.py`.

spec: client-server-api/#api-standards
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

JSON = "application/json"
_encode = msgspec.json.Encoder().encode


class RawJson:
    """JSON that is bytes already, sent as it is."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body


@dataclass(frozen=True, slots=True)
class Response:
    """Any answer: `body` is sent as it is if bytes, else as JSON."""

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Html:
    """A page for people. It may load nothing from elsewhere; pass another policy where a page needs more."""

    text: str
    status: int = 200
    policy: str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Streamed:
    """A body sent in pieces while it is made.

    `length` where it is known (else chunked). Compressed like any other only if `content_type` is JSON. The first
    piece is awaited before the header is sent, so an error until then is a proper answer.
    """

    pieces: AsyncIterator[bytes]
    content_type: str = "application/octet-stream"
    length: int | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamedJson(Streamed):
    """JSON that is sent while it is made: an initial sync."""

    content_type: str = JSON


class Reply(NamedTuple):
    """An answer in bytes."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] | None = None


def render(result: Any) -> Reply | Streamed:
    """A handler's result as bytes; None is `{}`."""
    kind = type(result)
    if kind is RawJson:
        return Reply(200, result.body)
    if isinstance(result, Streamed):
        return result
    if kind is Response:
        body = result.body if isinstance(result.body, bytes) else _encode(result.body)
        return Reply(result.status, body, result.content_type, result.headers)
    if kind is Html:
        headers = {
            "Content-Security-Policy": result.policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
        }
        return Reply(result.status, result.text.encode(), "text/html; charset=utf-8", headers)
    return Reply(200, b"{}" if result is None else _encode(result))
