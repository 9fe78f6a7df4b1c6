"""What this server may reach."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from homeserver.config import checks
from homeserver.config.base import Duration, ReadableFile, Section
from homeserver.config.listeners import Network


class PrivateAddresses(Section):
    """Which private addresses may be reached, per purpose. All public ones may, no private one unless it is named here."""

    federation: tuple[Network, ...] = ()
    """Other homeservers."""

    push: tuple[Network, ...] = ()
    """Push gateways."""

    appservices: tuple[Network, ...] = (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
    )
    """Bridges and bots: an administrator registered them, and they usually run close by."""

    identity: tuple[Network, ...] = ()
    """Identity servers, the puzzle's verifier, single sign-on."""

    previews: tuple[Network, ...] = ()
    """Web pages whose address somebody wrote into a message."""

    calls: tuple[Network, ...] = (
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
    )
    """The LiveKit server: an administrator named it, and it usually runs close by."""


class OutboundSection(Section):
    """What this server may reach, and how it checks whom it reached."""

    extra_ca_files: tuple[Annotated[ReadableFile, AfterValidator(checks.authorities)], ...] = ()
    """PEM files with certificate authorities to trust besides the system's."""

    allow_private: PrivateAddresses = PrivateAddresses()
    """Which private addresses may be reached, per purpose."""

    proxy: Annotated[str, AfterValidator(checks.proxy)] | None = Field(
        default=None, examples=["http://proxy.example.com:3128"]
    )
    """An HTTP proxy for outgoing requests. Private addresses are then the proxy's to refuse."""

    timeout: Duration = Field(default=60.0, ge=1)
    """How long another party may take to answer."""
