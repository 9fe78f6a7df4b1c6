"""Where the server listens, and what may be asked there."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from homeserver.config import checks
from homeserver.config.base import AnyPath, ReadableFile, Section

Resource = Literal["client", "federation", "media", "admin", "metrics", "health"]


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(
            f"an address or network is expected, such as 127.0.0.1 or 10.0.0.0/8: {error}"
        ) from None
    return value


Network = Annotated[str, AfterValidator(_network)]


class TlsFiles(Section):
    """A certificate and its key."""

    certificate: ReadableFile
    """PEM; the server's certificate first, then the intermediate ones."""

    private_key: ReadableFile
    """PEM, without a passphrase."""

    @model_validator(mode="after")
    def _can_be_shown(self) -> Self:
        try:
            checks.authorities(self.certificate)
        except ValueError as error:
            raise ValueError(f"certificate: {error}") from None
        try:
            checks.private_key_of(self.certificate, self.private_key)
        except ValueError as error:
            raise ValueError(f"private_key: {error}") from None
        return self


class Listener(Section):
    """One address and port."""

    address: str = "127.0.0.1"
    """127.0.0.1 (this machine only), 0.0.0.0 (everywhere, IPv4), :: (everywhere, IPv6), or one address."""

    port: int = Field(default=8008, ge=0, le=65535)
    """0 lets the system choose."""

    unix_socket: AnyPath | None = None
    """A Unix socket instead of address and port, for a proxy on the same machine."""

    tls: TlsFiles | None = None
    """Without it the listener speaks plain HTTP: for this machine only, or behind a proxy that speaks TLS."""

    resources: frozenset[Resource] = Field(
        default=frozenset({"client", "federation", "media", "admin", "health"}), min_length=1
    )
    """What may be asked here: client, federation, media, admin, metrics, health; all on one port if you like."""

    trusted_proxies: tuple[Network, ...] = ("127.0.0.1", "::1")
    """Whose X-Forwarded-For is believed: addresses or networks."""

    def meets(self, other: Listener) -> bool:
        """Whether both would listen at one place."""
        if self.unix_socket is not None or other.unix_socket is not None:
            return self.unix_socket == other.unix_socket
        if self.port != other.port or not self.port or (":" in self.address) != (":" in other.address):
            return False
        everywhere = {"0.0.0.0", "::"}  # compared with, not listened on
        here, there = (each.address.replace("localhost", "127.0.0.1") for each in (self, other))
        return here == there or here in everywhere or there in everywhere

    @model_validator(mode="after")
    def _address_is_one(self) -> Self:
        try:
            ipaddress.ip_address(self.address)
        except ValueError:
            if self.address != "localhost":
                raise ValueError("address: an IP address is expected, such as 127.0.0.1 or 0.0.0.0") from None
        return self
