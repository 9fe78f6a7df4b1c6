"""Which addresses an outgoing connection may reach, and which addresses are one client's.

Owns the distinction between the public internet and everything else: what another party names (a server name, a
pusher's URL, a link to preview) must not lead into the company's own network unless the administrator said so.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# What Python's own tables call global, or embed an IPv4 address in, and is none of the public internet.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "224.0.0.0/3",
        "::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/9",
        "ff00::/8",
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(OSError):
    """The address is private, and this purpose may not reach it."""


class AddressPolicy:
    """Public addresses, and those of `allowed` networks (CIDR). Raises `ValueError` for what is no network."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = tuple(ipaddress.ip_network(network, strict=False) for network in allowed)

    def permits(self, address: str) -> bool:
        """Whether a socket may connect there; `address` is an IP address, with or without a zone."""
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        real = embedded(ip)
        return any(real.version == n.version and real in n for n in self._allowed) or is_public(real)

    def require(self, address: str) -> None:
        """Raises `AddressRefused`."""
        if not self.permits(address):
            raise AddressRefused("the address is not public, and not allowed by outbound.allow_private")


@functools.lru_cache(4096)
def client_network(address: str) -> str:
    """What limits by address count as one client: an IPv4 address, however it is written, or the /64 of an IPv6 address, of
    which whoever has one has all (RFC 6177). What is no address is returned as it is.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    real = embedded(ip)
    return str(real) if real.version == 4 else str(ipaddress.ip_network((int(real), 64), strict=False))


@functools.lru_cache(4096)
def is_public(ip: IpAddress) -> bool:
    """Whether this is an address of the public internet that one host has."""
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return not any(ip.version == network.version and ip in network for network in _NOT_PUBLIC)


def embedded(ip: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address leads to, if it is of a kind that does (mapped, 6to4, NAT64)."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
