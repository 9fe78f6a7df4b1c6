"""The body of a request that is being authenticated: recognised again, and kept so that nobody can read it from the database.

It may hold a password. All keys are made of the session's name, of which only a hash is stored (`tokens.py`). What stands
under `auth` is no part of a body here: it is another one in each request.

spec: client-server-api/#user-interactive-authentication-api (CHECKLIST AUTH-05)
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import nacl.bindings

from homeserver.runtime.clock import Entropy
from homeserver.web.body import json_decoder

MAX_KEPT: Final = 4096
"""Bytes. Anybody can begin to register, so what is kept of it must be little."""
_whole = json_decoder(dict[str, Any])

_LABEL: Final = b"atrium: the body of a session of user-interactive authentication"
_NONCE: Final = nacl.bindings.crypto_secretbox_NONCEBYTES
"""Bytes. Each box has one of its own, in front: the key of a session seals what it was begun with, and what it is bound to."""


def body_mac(name: str, body: Mapping[str, Any]) -> bytes:
    """Of the session with this name: 32 bytes that tell one body from another, and nothing of what is in it."""
    return hmac.digest(name.encode(), _bytes(body), "sha256")


def kept(name: str, body: Mapping[str, Any], entropy: Entropy) -> bytes | None:
    """What to store of a body so that `kept_body` gives it back; None if it is too long to be kept."""
    written = _bytes(body)
    if len(written) > MAX_KEPT:
        return None
    nonce = entropy.bytes(_NONCE)
    return nonce + nacl.bindings.crypto_secretbox(written, nonce, _key(name))


def kept_body(name: str, sealed: bytes) -> dict[str, Any]:
    """The body again."""
    opened = nacl.bindings.crypto_secretbox_open(sealed[_NONCE:], sealed[:_NONCE], _key(name))
    body: dict[str, Any] = _whole(opened)
    return body


def adds_to(name: str, sealed: bytes | None, body: Mapping[str, Any]) -> bool:
    """Whether a body says all that the kept one says, in the same words, and perhaps more."""
    if sealed is None:
        return False
    before = kept_body(name, sealed)
    if not before.keys() <= body.keys():
        return False
    return hmac.compare_digest(_bytes(before), _bytes({key: body[key] for key in before}))


def _bytes(body: Mapping[str, Any]) -> bytes:
    rest = {key: value for key, value in body.items() if key != "auth"}
    return msgspec.json.encode(rest, order="sorted")


def _key(name: str) -> bytes:
    return hmac.digest(name.encode(), _LABEL, "sha256")
