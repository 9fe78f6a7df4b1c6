"""Server names, taken apart: host, port, and whether the host is an address.

spec: appendices/#server-name
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple

from homeserver.matrix.ids import is_server_name

DEFAULT_PORT: Final = 8448
"""spec: server-server-api/#resolving-server-names"""


class HostPort(NamedTuple):
    """The parts of a server name."""

    host: str
    """A DNS name as it was written, or an IP address without brackets."""
    port: int | None
    literal: bool
    """The host is an IP address."""

    def authority(self, port: int | None) -> str:
        """As `Host` and URLs have it: brackets around IPv6, the port if there is one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if port is None else f"{host}:{port}"


def split_server_name(name: str) -> HostPort:
    """Take a server name apart. Raises `ValueError` for what is none, has port 0, or looks like an address and is none."""
    if not is_server_name(name):
        raise ValueError("not a server name")
    if name.startswith("["):
        bracketed, _, rest = name[1:].partition("]")
        return HostPort(str(ipaddress.IPv6Address(bracketed)), _port(rest.removeprefix(":")), literal=True)
    host, _, port = name.partition(":")
    if host.replace(".", "").isdigit():
        # Grammar calls 999.1.1.1 a DNS name; resolvers call 127.1 an address.
        return HostPort(str(ipaddress.IPv4Address(host)), _port(port), literal=True)
    return HostPort(host, _port(port), literal=False)


def _port(text: str) -> int | None:
    if not text:
        return None
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError("no such port")
    return port
