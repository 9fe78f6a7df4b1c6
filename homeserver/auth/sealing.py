"""A request kept until it has been authenticated, so that nobody can read it from the database: it may hold a password.

The key is made of the session's name, of which only a hash is stored (`tokens.py`).
"""

from __future__ import annotations

import hmac
from typing import Final

import nacl.bindings

_LABEL: Final = b"atrium: the body of a session of user-interactive authentication"
_NONCE: Final = bytes(nacl.bindings.crypto_secretbox_NONCEBYTES)
"""Always the same: each key seals one thing."""


def seal(name: str, body: bytes) -> bytes:
    """What to store of the body of the session with this name."""
    return nacl.bindings.crypto_secretbox(body, _NONCE, _key(name))


def unseal(name: str, sealed: bytes) -> bytes:
    """The body again."""
    return nacl.bindings.crypto_secretbox_open(sealed, _NONCE, _key(name))


def _key(name: str) -> bytes:
    return hmac.digest(name.encode(), _LABEL, "sha256")
