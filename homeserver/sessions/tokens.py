"""Secrets that are carried: how they are made, and what of them is stored.

A token has 256 bits of chance, so that its plain SHA-256 is as good at rest as any slow hash. The prefix says what it
is to whoever finds one where none should be.
"""

from __future__ import annotations

import hashlib
from typing import Final

from homeserver.runtime.clock import Entropy

ACCESS: Final = "ata_"
REFRESH: Final = "atr_"
LOGIN: Final = "atl_"
OPENID: Final = "ato_"
UIA: Final = "atu_"

MAX_TOKEN: Final = 512
"""Characters; what is longer was not made here."""


def new_token(entropy: Entropy, prefix: str) -> str:
    """A fresh token: letters, digits, `-` and `_` only, so it is also a URL segment."""
    return prefix + entropy.token(32)


def digest_of(token: str) -> bytes:
    """What is stored instead of the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
