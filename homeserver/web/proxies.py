"""Whose word about the client's address is believed.

Owns `X-Forwarded-For` and `X-Forwarded-Proto`: read only when the connection comes from a trusted network.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from aiohttp import hdrs
from multidict import MultiMapping

from homeserver.web import limits

_REMEMBERED = 4096
"""Addresses whose standing is remembered: most requests come from few."""


class TrustedProxies:
    """The networks that reverse proxies stand in.

    `networks` are in CIDR notation. `unix` trusts whoever can open a Unix socket of ours. Raises `ValueError` for
    what is no network.
    """

    def __init__(self, networks: Iterable[str] = (), *, unix: bool = True) -> None:
        self._networks = tuple(ipaddress.ip_network(n, strict=False) for n in networks)
        self._contains = functools.lru_cache(_REMEMBERED)(self._in_networks)
        self._unix = unix

    def client_of(self, address: str, scheme: str, headers: MultiMapping[str]) -> tuple[str, str]:
        """(address, scheme) of the client behind a request that came from `address` (empty: a Unix socket) by `scheme`; the
        address is empty if nobody knows it.
        """
        if not self.trusts(address):
            return address, scheme
        if (told := headers.get(hdrs.X_FORWARDED_PROTO)) is not None:
            told = told.strip().lower()
            scheme = told if told in {"http", "https"} else scheme
        if hops := headers.getall(hdrs.X_FORWARDED_FOR, None):
            address = self._forwarded(",".join(hops), address)
        return address, scheme

    def trusts(self, address: str) -> bool:
        """Whether a proxy may speak from this address; the empty one is a Unix socket."""
        if not address:
            return self._unix
        return bool(self._networks) and self._contains(address)

    def _forwarded(self, told: str, address: str) -> str:
        # Each proxy appends who it heard from; going back from the end, the first that is no proxy is the client.
        # What stands further left was written by that client and proves nothing.
        for hop in reversed(told.split(",")[-limits.MAX_FORWARDED_HOPS :]):
            candidate = _address(hop)
            if not candidate:
                return address
            address = candidate
            if not self._contains(candidate):
                return address
        return address

    def _in_networks(self, address: str) -> bool:
        ip = _parse(address)
        if ip is None:
            return False
        return any(ip.version == network.version and ip in network for network in self._networks)


def _parse(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip


def _address(hop: str) -> str:
    """An address as proxies write it (`1.2.3.4`, `1.2.3.4:5678`, `[::1]:5678`), normalised; empty if it is none."""
    hop = hop.strip()
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    ip = _parse(hop)
    return str(ip) if ip else ""
