"""From a server name to where the server is, in the order of the specification.

spec: server-server-api/#resolving-server-names (CHECKLIST DISC-04 to DISC-07)
"""

from __future__ import annotations

from typing import Protocol

from federation.transport.names import DEFAULT_PORT, HostPort, split_server_name
from federation.transport.routes import Route, Target
from homeserver.matrix.ids import ServerName


class Resolver(Protocol):
    """Finds servers."""

    async def resolve(self, server_name: ServerName) -> Route:
        """Raises `ValueError` for what is no server name."""
        ...


class NameResolver:
    """Names that say themselves where the server is: addresses, and hosts with a port; the others are taken to be on 8448."""

    async def resolve(self, server_name: ServerName) -> Route:
        """See `Resolver`."""
        name = split_server_name(server_name)
        return said_by_itself(name) or direct(name, "6")


def said_by_itself(name: HostPort, *, step: str = "") -> Route | None:
    """Steps 1 and 2: an address, or a host with a port; None for all others."""
    if name.literal:
        return direct(name, f"{step}1")
    if name.port is not None:
        return direct(name, f"{step}2")
    return None


def direct(name: HostPort, step: str) -> Route:
    """The host itself, at the port it names or the default one."""
    return Route(
        targets=(Target(name.host, name.port or DEFAULT_PORT),),
        host_header=name.authority(name.port),
        tls_name=name.host,
        step=step,
    )
