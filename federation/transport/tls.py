"""Whom a certificate is checked against, by server: the authorities everybody trusts, or what was agreed with a partner.

spec: server-server-api/#tls (CHECKLIST DISC-08)
"""

from __future__ import annotations

import base64
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
    discovery: ssl.SSLContext | None = None
    """Where its well-known file is asked for, which another program may serve, with a key of its own; None: the same."""


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
    """The server shows another key than was agreed."""

    verify_message = "its key is not one that was agreed (federation.partners: pins)"
    """As the library calls the reason."""


def pinned(context: ssl.SSLContext, pins: frozenset[str]) -> ssl.SSLContext:
    """Let a context accept, of what it would accept, only certificates whose public key has one of these pins: base64 of the
    SHA-256 of its SubjectPublicKeyInfo. RFC 7469, 2.4

    It is judged at the end of the handshake, before a byte of a request is sent. Returns the same context.
    """

    class Pinned(ssl.SSLObject):
        @override
        def do_handshake(self) -> None:
            super().do_handshake()
            if pin_of(self.getpeercert(binary_form=True) or b"") not in pins:
                raise PinMismatch(PinMismatch.verify_message)

    made: Any = context
    made.sslobject_class = Pinned
    return context


def pin_of(certificate: bytes) -> str:
    """The pin of a certificate (DER); empty for what is none."""
    from cryptography import x509  # here: nearly nobody has pins
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
        info = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return ""
    return base64.b64encode(hashlib.sha256(info).digest()).decode()
