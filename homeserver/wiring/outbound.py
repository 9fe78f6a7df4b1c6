"""How this process reaches other parties, from the configuration."""

from __future__ import annotations

from homeserver.config.outbound import OutboundSection
from homeserver.web.outbound import Outbound, OutboundSettings, Purpose


def outbound_of(section: OutboundSection, *, verify_federation: bool = True) -> Outbound:
    """Close it when the process ends. Raises `OSError`, `ssl.SSLError` for certificate files that cannot be used."""
    return Outbound(
        OutboundSettings(
            allow_private={purpose: getattr(section.allow_private, purpose.value) for purpose in Purpose},
            ca_files=section.extra_ca_files,
            proxy=section.proxy,
            timeout=section.timeout,
            verify_federation=verify_federation,
        )
    )
