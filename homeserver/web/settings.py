"""From the sections of the configuration to the values of this package."""

from __future__ import annotations

import sys

from homeserver.config.limits import LimitsSection
from homeserver.config.listeners import Listener as ListenerSection
from homeserver.config.observability import LogSection
from homeserver.config.rate_limits import Rate as RateSection
from homeserver.config.rate_limits import RateLimitSection
from homeserver.runtime.clock import Clock
from homeserver.web.binding import Bounds
from homeserver.web.listener import Listener, Tls
from homeserver.web.observe import Line, json_line, structlog_line
from homeserver.web.rate_limit import Buckets, Rate, RateLimiter
from homeserver.web.resources import Resource

LINE_BUFFER = 64 * 1024
"""Bytes of request lines that wait to be written together."""


def bounds(section: LimitsSection) -> Bounds:
    """How large requests may be."""
    return Bounds(client_body=section.max_body, server_body=section.max_federation_body)


def limiter(section: RateLimitSection, clock: Clock, buckets: Buckets | None = None) -> RateLimiter:
    """A limiter with the configured classes; without any where limits are off. `buckets`: what several processes share."""
    if not section.enabled:
        return RateLimiter(clock, {})
    found = {name: getattr(section, name) for name in type(section).model_fields}
    rates = {name: Rate(r.per_second, r.burst) for name, r in found.items() if isinstance(r, RateSection)}
    return RateLimiter(clock, rates, guest_factor=section.guest_factor, buckets=buckets)


def request_line(section: LogSection, clock: Clock) -> Line | None:
    """How a request's line is written; None where none is wanted. The fast way where lines are JSON."""
    if not section.requests or section.level in {"warning", "error"}:
        return None
    as_json = section.format == "json" or (section.format == "auto" and not sys.stderr.isatty())
    if not as_json:
        return structlog_line
    # A buffer of its own: that of standard error is small, and absent where Python was told not to buffer.
    return json_line(open(sys.stderr.fileno(), "wb", LINE_BUFFER, closefd=False), clock)


def listener(section: ListenerSection, *, reuse_port: bool = False) -> Listener:
    """`reuse_port`: other processes listen there too."""
    return Listener(
        host=section.address,
        port=section.port,
        resources=frozenset(Resource(name) for name in section.resources),
        tls=Tls(section.tls.certificate, section.tls.private_key) if section.tls else None,
        unix_socket=section.unix_socket,
        trusted_proxies=section.trusted_proxies,
        reuse_port=reuse_port,
    )
