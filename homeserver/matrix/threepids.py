"""Third-party identifiers in the one spelling in which they are stored, compared and hashed.

spec: appendices/#3pid-types
"""

from __future__ import annotations

import re
from typing import Final

from homeserver.matrix.errors import InvalidParam

# Deliverability is found out by sending; here only what could never be an address, or would break a header, is refused.
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,255}")
_MSISDN: Final = re.compile(r"[1-9][0-9]{4,14}", re.ASCII)


def canonical_email(address: str, where: str = "email") -> str:
    """The address case-folded: `Strauß@Example.com` and `strauss@example.com` are one.

    spec: appendices/#e-mail. Raises `InvalidParam` naming `where` if it is no address.
    """
    folded = address.strip().casefold()
    if not _EMAIL.fullmatch(folded):
        raise InvalidParam(f"{where}: not an e-mail address")
    return folded


def canonical_msisdn(number: str, where: str = "phone_number") -> str:
    """The number with its country code, digits alone. spec: appendices/#pstn-phone-numbers. Raises `InvalidParam`."""
    digits = re.sub(r"[\s().+-]", "", number)
    if not _MSISDN.fullmatch(digits):
        raise InvalidParam(f"{where}: not a phone number with its country code")
    return digits
