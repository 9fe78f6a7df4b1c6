"""JSON Web Tokens with a shared secret, as LiveKit takes and makes them: HS256 alone.

spec: RFC 7515 (JWS), RFC 7519 (JWT)
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from homeserver.matrix import json

MAX_TOKEN: Final = 8_192
"""Characters of a token that is looked at."""
_HEADER: Final = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}
_LEEWAY: Final = 60
"""Seconds that clocks may differ."""


class BadToken(Exception):
    """Not made with this secret, not valid now, or nothing of the kind."""


def signed(claims: Mapping[str, Any], secret: str) -> str:
    """A token that says so."""
    message = _HEADER + b"." + _encoded(json.dumps(claims))
    return (message + b"." + _encoded(_digest(message, secret))).decode()


def verified(token: str, secret: str, now: int) -> dict[str, Any]:
    """What a token says. `now`: Unix time in seconds. Raises `BadToken`."""
    header, _, rest = token.partition(".")
    payload, _, signature = rest.partition(".")
    if len(token) > MAX_TOKEN or not token.isascii():
        raise BadToken("no token")
    try:
        if _object(header).get("alg") != "HS256":
            raise BadToken("another algorithm")
        if not hmac.compare_digest(_decoded(signature), _digest(f"{header}.{payload}".encode(), secret)):
            raise BadToken("another secret")
        claims = _object(payload)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadToken("no token") from error
    starts, ends = claims.get("nbf", 0), claims.get("exp")
    if not isinstance(ends, int | float) or not isinstance(starts, int | float):
        raise BadToken("no times")
    if not starts - _LEEWAY <= now <= ends + _LEEWAY:
        raise BadToken("not valid now")
    return claims


def _object(text: str) -> dict[str, Any]:
    return msgspec.json.decode(_decoded(text), type=dict[str, Any])


def _digest(message: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), message, "sha256")


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise BadToken("no base64") from error
