"""What sliding sync needs of other features; each is plugged in by `wiring`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol


class Labels(NamedTuple):
    """What a user says of their rooms."""

    direct: frozenset[str]
    """Ids of rooms that are conversations with one person. spec: client-server-api/#direct-messaging"""
    tags: Mapping[int, frozenset[str]]
    """room_nid -> its tags. spec: client-server-api/#room-tagging"""


class RoomLabels(Protocol):
    """Fulfilled by account data."""

    async def of(self, user_nid: int) -> Labels:
        """As of now; no I/O while nothing has changed."""
        ...
