"""What is known about requests from outside: one line per request, and metrics.

Owns the canonical line: route template instead of path, so that identifiers and tokens stay out of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any

import msgspec
import structlog

from homeserver.runtime.clock import Clock
from homeserver.runtime.request_context import current
from homeserver.web.metrics import HttpMetrics
from homeserver.web.request import RequestInfo

_log = structlog.get_logger("atrium.request")

Line = Callable[[dict[str, Any]], None]
"""Writes the fields of one request's line."""

LINGER_SECONDS = 0.02
"""How long a line may wait to be written with others; as much is lost if the process is killed."""


def structlog_line(fields: dict[str, Any]) -> None:
    """The line as structlog renders it, whatever that is configured to."""
    _log.info("request", **fields)


def json_line(stream: IO[bytes], clock: Clock) -> Line:
    """The same line as JSON, without structlog's chain of processors: a fraction of the cost.

    With the keys that `runtime.logging` writes, and what is bound in structlog's context now (which worker this is).
    Lines wait `LINGER_SECONDS` for others, to be handed to the system together; needs a running event loop.
    """
    encode = msgspec.json.Encoder().encode
    constant = encode({"event": "request", "level": "info", **structlog.contextvars.get_contextvars()})[1:-1]
    loop = asyncio.get_running_loop()
    second, prefix = -1, b""
    waiting = False

    def flush() -> None:
        nonlocal waiting
        waiting = False
        stream.flush()

    def write(fields: dict[str, Any]) -> None:
        nonlocal second, prefix, waiting
        now, ms = divmod(clock.now_ms(), 1000)
        if now != second:
            moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            second, prefix = now, b'{"time":"%b.' % moment.encode()
        stream.write(b'%b%03dZ",%b,%b\n' % (prefix, ms, constant, encode(fields)[1:]))
        if not waiting:
            waiting = True
            loop.call_later(LINGER_SECONDS, flush)

    return write


class Observer:
    """Sees every request come and go. `line` None: no line per request."""

    def __init__(self, clock: Clock, metrics: HttpMetrics, line: Line | None = structlog_line) -> None:
        self._now = clock.monotonic
        self._metrics = metrics
        self._line = line

    def begins(self, info: RequestInfo) -> None:
        """Called when a request's header was read."""
        info.started = self._now()
        current.set(info)
        self._metrics.in_flight += 1

    def ends(self, info: RequestInfo, status: int, sent: int) -> None:
        """Called when its answer was sent, or could not be (499)."""
        seconds = self._now() - info.started
        self._metrics.in_flight -= 1
        self._metrics.count(info.operation, info.method, status, seconds)
        if self._line is not None:
            self._line(_fields(info, status, sent, seconds))


def _fields(info: RequestInfo, status: int, sent: int, seconds: float) -> dict[str, Any]:
    requester, origin = info.requester, info.origin
    return {
        "request_id": info.request_id,
        "method": info.method,
        "route": info.template,
        "operation": info.operation,
        "status": status,
        "errcode": info.errcode,
        "ms": round(seconds * 1000, 2),
        "user": requester.user_id if requester is not None else None,
        "origin": origin.server_name if origin is not None else None,
        "ip": info.ip,
        "received": len(info.body),
        "sent": sent,
        "db_queries": info.db_queries,
    }
