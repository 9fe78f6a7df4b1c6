"""Whom this server speaks with, by the names in the configuration: `federation.ports.Partners`.

Owns the judgement over `federation.allow` and `federation.deny`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from homeserver.matrix.glob import Glob, WorkBudget, fold
from homeserver.matrix.ids import ServerName

_WORK: Final = 100_000


class PartnerLists:
    """Names with `*` and `?`; case does not count, and neither does the port. What is denied is denied though it is allowed."""

    def __init__(self, *, enabled: bool, allow: Sequence[str] | None, deny: Sequence[str]) -> None:
        """`allow` None: everybody who is not denied."""
        self._enabled = enabled
        self._allow = None if allow is None else [Glob(fold(pattern)) for pattern in allow]
        self._deny = [Glob(fold(pattern)) for pattern in deny]
        self._judged = lru_cache(4096)(self._judge)

    def may_speak(self, server_name: ServerName) -> bool:
        """See `Partners`."""
        return self._enabled and self._judged(server_name)

    def may_share(self, server_name: ServerName, room_id: str) -> bool:  # noqa: ARG002  # every room, as yet
        """See `Partners`."""
        return self.may_speak(server_name)

    def _judge(self, server_name: ServerName) -> bool:
        names = {fold(server_name), fold(_without_port(server_name))}
        if _matches(self._deny, names):
            return False
        return self._allow is None or _matches(self._allow, names)


def _matches(patterns: Sequence[Glob], names: set[str]) -> bool:
    return any(pattern.matches(name, WorkBudget(_WORK)) for pattern in patterns for name in names)


def _without_port(server_name: str) -> str:
    host, colon, port = server_name.rpartition(":")
    return host if colon and port.isdigit() and not host.endswith(":") else server_name
