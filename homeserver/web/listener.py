"""What a listener is: address, TLS, and the resources it carries.

Owns the values that `server.py` is told; `homeserver.config` makes them from the configuration file.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from homeserver.web.resources import Resource


@dataclass(frozen=True, slots=True)
class Tls:
    """A certificate chain and its key, PEM."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Raises `OSError` or `ssl.SSLError` for files that are absent or do not belong together."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """One address that is listened on. Port 0 takes a free one (`WebServer.addresses` tells which)."""

    host: str = "127.0.0.1"
    port: int = 8008
    resources: frozenset[Resource] = field(default_factory=lambda: frozenset(Resource))
    tls: Tls | None = None
    unix_socket: Path | None = None
    """Instead of host and port."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks in CIDR notation whose `X-Forwarded-For` and `-Proto` are believed."""
    reuse_port: bool = False
    """Several processes listen on this port and the kernel spreads connections over them."""
    backlog: int = 1024
