"""Unpadded Base64, as signatures, hashes and keys are written.

spec: appendices/#unpadded-base64
"""

from __future__ import annotations

import binascii
from typing import Final

_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")


def encode(data: bytes) -> str:
    """The standard alphabet, without padding."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").decode("ascii")


def encode_url_safe(data: bytes) -> str:
    """The URL-safe alphabet (`-` and `_`), without padding: event ids since version 4."""
    return binascii.b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL_SAFE).decode("ascii")


def decode(text: str) -> bytes:
    """Decode either alphabet, padded or not: others do pad, and mix up the alphabets.

    Raises:
        ValueError: another character, padding in the middle, or a length that no bytes have.
    """
    try:
        raw = text.encode("ascii").translate(_TO_STANDARD)
    except UnicodeEncodeError:
        raise ValueError("not Base64") from None
    body = raw.rstrip(b"=")
    if len(raw) - len(body) > 2:
        raise ValueError("not Base64: too much padding")
    try:
        return binascii.a2b_base64(body + b"=" * (-len(body) % 4), strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"not Base64: {error}") from None
