"""Where a server is: the answer of resolving its name.

spec: server-server-api/#resolving-server-names
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

DISCOVERY: Final = "well-known"
"""The step of a route to a well-known file."""


class Target(NamedTuple):
    """Somewhere to connect to."""

    host: str
    """A DNS name to be looked up, or an IP address without brackets."""
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How requests to a server travel."""

    targets: tuple[Target, ...]
    """In the order in which they are tried; at least one."""
    host_header: str
    """What `Host` says: the delegated name, or the server's; never where an SRV record points."""
    tls_name: str
    """Whom the certificate must name (and SNI asks for): a DNS name, or an IP address without brackets."""
    step: str
    """Which step of the specification said so: for people (`atrium federation test`)."""
