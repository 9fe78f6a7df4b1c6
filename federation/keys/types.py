"""Values of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import msgspec

from homeserver.events.signatures import KeyRecord
from homeserver.matrix.ids import ServerName

Keys: TypeAlias = Mapping[str, KeyRecord]
"""Of one server, by key id."""


class VerifyKey(msgspec.Struct, frozen=True):
    """One of `verify_keys`."""

    key: str


class OldVerifyKey(msgspec.Struct, frozen=True):
    """One of `old_verify_keys`."""

    key: str
    expired_ts: int


class KeyResponse(msgspec.Struct, frozen=True, kw_only=True):
    """spec: server-server-api/#getmatrixkeyv2server"""

    server_name: str
    verify_keys: dict[str, VerifyKey]
    old_verify_keys: dict[str, OldVerifyKey] = msgspec.field(default_factory=dict)
    valid_until_ts: int
    signatures: dict[str, dict[str, str]]


class ServerKeys(NamedTuple):
    """What a server has told of its keys, its own signature checked."""

    server_name: ServerName
    keys: Keys
    valid_until_ts: int
    """Unix ms: as the server said."""
    received_ts: int
    """Unix ms."""
    response: Mapping[str, Any]
    """The whole answer, for those who ask us as a notary."""


class QueriedKey(msgspec.Struct, frozen=True):
    """What is asked of a notary about one key."""

    minimum_valid_until_ts: int | None = None


KeyQuery = Mapping[str, QueriedKey]
"""By key id; empty: all keys."""


class KeyQueryAnswer(msgspec.Struct, frozen=True):
    """spec: server-server-api/#post_matrixkeyv2query"""

    server_keys: list[dict[str, Any]]
