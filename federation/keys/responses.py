"""Judging what a server says of its keys. Pure.

spec: server-server-api/#publishing-keys, #querying-keys-through-another-server (CHECKLIST FED-05, FED-07, CRY-02)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from federation.keys.types import KeyResponse, ServerKeys
from homeserver.events.signatures import KeyRecord
from homeserver.matrix import base64
from homeserver.matrix.errors import InvalidSignature
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import is_key_version, verify_json

MAX_KEYS: Final = 100
"""Of one server, current and old; more is no server that changes its key once a week for years."""
MAX_SIGNING: Final = 8
"""Current keys: each must have signed the answer."""
_MAX_TS: Final = 2**53 - 1


class BadKeys(ValueError):
    """The answer says nothing about the server's keys that can be believed; the text is fit for a log."""


def judge(response: Mapping[str, Any], server_name: ServerName, received_ts: int) -> ServerKeys:
    """The keys in an answer of `/key/v2/server`, or in one entry of a notary's.

    Every current ed25519 key must have signed it: who holds none of them could claim any other. Raises `BadKeys`.
    """
    told = _read(response)
    if told.server_name != server_name:
        raise BadKeys("the answer is about another server")
    if len(told.verify_keys) > MAX_SIGNING or len(told.old_verify_keys) > MAX_KEYS:
        raise BadKeys("more keys than a server has")
    if not 0 <= told.valid_until_ts <= _MAX_TS:
        raise BadKeys("valid_until_ts is no time")
    keys: dict[str, KeyRecord] = {}
    for key_id, old in told.old_verify_keys.items():
        raw = _public_key(key_id, old.key)
        if raw is not None and 0 <= old.expired_ts <= _MAX_TS:
            keys[key_id] = KeyRecord(key_id, raw, old.expired_ts, received_ts, old=True)
    current = 0
    for key_id, verify in told.verify_keys.items():
        raw = _public_key(key_id, verify.key)
        if raw is None:
            continue
        try:
            verify_json(response, server_name, key_id, raw)
        except InvalidSignature as error:
            raise BadKeys(error.error) from None
        keys[key_id] = KeyRecord(key_id, raw, told.valid_until_ts, received_ts)
        current += 1
    if not current:
        raise BadKeys("no ed25519 key in it")
    return ServerKeys(server_name, keys, told.valid_until_ts, received_ts, response)


def _read(response: Mapping[str, Any]) -> KeyResponse:
    try:
        return msgspec.convert(response, KeyResponse)
    except msgspec.ValidationError as error:
        raise BadKeys(f"not the answer that is specified: {error}"[:300]) from None


def _public_key(key_id: str, text: str) -> bytes | None:
    """None: of an algorithm that is not known, or no key."""
    algorithm, _, version = key_id.partition(":")
    if algorithm != "ed25519" or len(key_id) > 255 or not is_key_version(version):
        return None
    try:
        raw = base64.decode(text)
    except ValueError:
        return None
    return raw if len(raw) == 32 else None
