"""What keys of other servers' users are asked with; fulfilled by federation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from homeserver.e2ee.merge import UserKeys
from homeserver.matrix.ids import ServerName

Failures = Mapping[str, Any]
"""Server name -> an object that says what went wrong."""


class Queried(NamedTuple):
    """What other servers said of their users' keys."""

    keys: Mapping[str, UserKeys]
    """By user id; who is missing was not told."""
    failures: Failures


class Claimed(NamedTuple):
    """Keys that other servers gave out."""

    keys: Mapping[str, Mapping[str, Mapping[str, Any]]]
    """user_id -> device_id -> `algorithm:id` -> key."""
    failures: Failures


class RemoteKeys(Protocol):
    """Asks other servers, all at once; one that does not answer delays the others by nothing but the time there is."""

    async def query(
        self, wanted: Mapping[ServerName, Mapping[str, Sequence[str]]], timeout: float
    ) -> Queried:
        """`wanted`: by server the users and their devices (none: all). `timeout`: seconds. Raises nothing for what others do."""
        ...

    async def claim(
        self, wanted: Mapping[ServerName, Mapping[str, Mapping[str, str]]], timeout: float
    ) -> Claimed:
        """`wanted`: by server user_id -> device_id -> algorithm. `timeout`: seconds. Raises nothing for what others do."""
        ...
