"""Whom a certificate is checked against, by server: the authorities everybody trusts, or what was agreed with a partner.

spec: server-server-api/#tls (CHECKLIST DISC-08)
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from typing import Any, Protocol

from typing_extensions import override

from homeserver.matrix.ids import ServerName


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """What the certificate of a server is checked against."""

    context: ssl.SSLContext


class PartnerTls(Protocol):
    """What was agreed with single servers. Fulfilled by `federation.partners`; answered from memory."""

    def of(self, server_name: ServerName) -> TlsTrust | None:
        """None: nothing in particular."""
        ...


class NoPartnerTls:
    """Nothing was agreed with anybody."""

    def of(self, server_name: ServerName) -> TlsTrust | None:  # noqa: ARG002  # the protocol's
        """See `PartnerTls`."""
        return None


class PinMismatch(ssl.SSLCertVerificationError):
    """The server shows another certificate than was agreed."""


def pinned(context: ssl.SSLContext, fingerprints: frozenset[bytes]) -> ssl.SSLContext:
    """Let a context accept, of what it would accept, only certificates with one of these SHA-256 fingerprints (32 bytes each).

    It is judged at the end of the handshake, before a byte of a request is sent. Returns the same context.
    """

    class Pinned(ssl.SSLObject):
        @override
        def do_handshake(self) -> None:
            super().do_handshake()
            shown = self.getpeercert(binary_form=True) or b""
            if hashlib.sha256(shown).digest() not in fingerprints:
                raise PinMismatch("the certificate is not the one that was agreed")

    made: Any = context
    made.sslobject_class = Pinned
    return context
