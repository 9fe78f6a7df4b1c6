"""What is known about requests from outside: one line per request, and Prometheus metrics.

Owns the canonical line (route template instead of path: identifiers and tokens stay out of it), the metrics of HTTP,
and the request that code below is running for (`current`), so that a log line deep in the storage names it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from homeserver.runtime.clock import Clock
from homeserver.web.request import RequestInfo

_log = structlog.get_logger("atrium.request")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

current: ContextVar[RequestInfo | None] = ContextVar("atrium_request", default=None)
"""The request this task runs for."""


def count_query() -> None:
    """Called by the storage once per statement: the line of the request says how many it took."""
    if (info := current.get()) is not None:
        info.db_queries += 1


def add_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: every line that is written for a request carries its id."""
    if (info := current.get()) is not None:
        event.setdefault("request_id", info.request_id)
    return event


class Observer:
    """Sees every request come and go.

    `quiet` turns the line per request off; metrics are always counted, into `registry`.
    """

    def __init__(self, clock: Clock, registry: CollectorRegistry, *, quiet: bool = False) -> None:
        self._clock = clock
        self._quiet = quiet
        self._requests = Counter(
            "atrium_http_requests", "Requests answered", ("operation", "method", "status"), registry=registry
        )
        self._seconds = Histogram(
            "atrium_http_request_seconds",
            "Seconds from the request's header to the end of its answer",
            ("operation",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "atrium_http_requests_in_flight", "Requests being answered", registry=registry
        )
        # Children are looked up once: labels come from declarations, so their number is bounded.
        self._counted: dict[tuple[str, str, int], Counter] = {}
        self._timed: dict[str, Histogram] = {}

    def begins(self, info: RequestInfo) -> None:
        """Called when a request's header was read."""
        info.started = self._clock.monotonic()
        current.set(info)
        self._in_flight.inc()

    def ends(self, info: RequestInfo, status: int, sent: int) -> None:
        """Called when its answer was sent, or could not be (499)."""
        seconds = self._clock.monotonic() - info.started
        self._in_flight.dec()
        key = (info.operation, info.method, status)
        counted = self._counted.get(key)
        if counted is None:
            counted = self._counted[key] = self._requests.labels(info.operation, info.method, str(status))
        counted.inc()
        timed = self._timed.get(info.operation)
        if timed is None:
            timed = self._timed[info.operation] = self._seconds.labels(info.operation)
        timed.observe(seconds)
        if not self._quiet:
            self._line(info, status, sent, seconds)

    @staticmethod
    def _line(info: RequestInfo, status: int, sent: int, seconds: float) -> None:
        _log.info(
            "request",
            request_id=info.request_id,
            method=info.method,
            route=info.template,
            operation=info.operation,
            status=status,
            errcode=info.errcode,
            ms=round(seconds * 1000, 2),
            user=info.requester.user_id if info.requester else None,
            origin=info.origin.server_name if info.origin else None,
            ip=info.ip,
            received=len(info.body),
            sent=sent,
            db_queries=info.db_queries,
        )
