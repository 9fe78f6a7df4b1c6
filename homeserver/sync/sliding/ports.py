"""What sliding sync needs of other features; each is plugged in by `wiring`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol

from homeserver.log.entries import Entry, Position
from homeserver.matrix.ids import UserId
from homeserver.sync.types import Recipients, SyncRequest
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


class WantedProfiles(NamedTuple):
    """Whose profiles are wanted."""

    fields: frozenset[str] | None
    """None: all."""
    about: frozenset[int]
    """Rooms (by number) whose members are told of."""
    new: frozenset[int]
    """Those of them that have not been told yet."""
    people: Collection[UserId]
    """Whose membership the answer shows, in rooms that load members lazily."""
    begins: bool
    """Whether nothing was told yet of these fields."""


class ProfilesPage(NamedTuple):
    """What is told of profiles."""

    users: Mapping[str, bytes]
    """User id -> JSON."""
    later: frozenset[int]
    """Rooms whose members did not fit in."""


class ProfileUpdates(Protocol):
    """Fulfilled by profiles."""

    async def page(self, request: SyncRequest, wanted: WantedProfiles) -> ProfilesPage:
        """What is told as of `request.upto`."""
        ...
