"""Whom the certificates of partners are checked against: `federation.transport.tls.PartnerTls`.

spec: server-server-api/#tls (CHECKLIST DISC-08)
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from federation.partners.policy import Policy
from federation.transport.tls import TlsTrust, pinned
from homeserver.matrix.ids import ServerName
from homeserver.web.outbound import trusting

REMEMBERED: Final = 1_000
"""Agreements whose contexts are kept: a context of all public authorities takes some hundred kilobytes."""


class TlsOfPartners:
    """Makes a context when a partner is first asked, and keeps it: connections are shared by those of one context."""

    def __init__(self, policy: Policy, authorities: Sequence[Path]) -> None:
        """`authorities`: PEM files that are trusted besides the system's, for partners that have pins alone."""
        self._policy = policy
        self._authorities = authorities
        self._trust = lru_cache(REMEMBERED)(self._made)

    def of(self, server_name: ServerName) -> TlsTrust | None:
        """See `PartnerTls`. Raises `OSError` where a file is gone since the configuration was read."""
        terms = self._policy.terms(server_name)
        if not terms.ca_files and not terms.pins:
            return None
        return self._trust(terms.ca_files, terms.pins)

    def _made(self, ca_files: tuple[Path, ...], pins: frozenset[str]) -> TlsTrust:
        plain = self._context(ca_files)
        if not pins:
            return TlsTrust(plain)
        return TlsTrust(pinned(self._context(ca_files), pins), plain)

    def _context(self, ca_files: tuple[Path, ...]) -> ssl.SSLContext:
        if not ca_files:
            return trusting(self._authorities)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for path in ca_files:
            context.load_verify_locations(path)
        return context
