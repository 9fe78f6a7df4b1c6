"""What sliding sync needs of other features; each is plugged in by `wiring`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from homeserver.log.entries import Entry, Position
from homeserver.sync.types import Recipients
from homeserver.web.auth import Requester


class Labels(NamedTuple):
    """What a user says of their rooms."""

    direct: frozenset[str]
    """Ids of rooms that are conversations with one person. spec: client-server-api/#direct-messaging"""
    tags: Mapping[int, frozenset[str]]
    """room_nid -> its tags. spec: client-server-api/#room-tagging"""


class ThreadPage(Protocol):
    """Changes of subscriptions to threads, the newest first."""

    @property
    def members(self) -> dict[str, bytes]:
        """`subscribed` and `unsubscribed`, JSON, where there are any."""
        ...

    @property
    def before(self) -> str | None:
        """The token for what is before them; None: that is all."""
        ...


class ThreadChanges(Protocol):
    """Fulfilled by threads."""

    async def page(self, requester: Requester, after: Position, upto: Position, limit: int) -> ThreadPage:
        """Changes in (after, upto]: the newest `limit`. One query."""
        ...

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """Which entries of the log are such changes."""
        ...


class RoomLabels(Protocol):
    """Fulfilled by account data."""

    async def of(self, user_nid: int) -> Labels:
        """As of now; no I/O while nothing has changed."""
        ...
