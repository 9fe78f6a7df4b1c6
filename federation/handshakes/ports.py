"""What handshakes need of other parts of federation; plugged in by the wiring."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import EventId, ServerName


class Acls(Protocol):
    """The access control lists of rooms."""

    async def require(self, room: Room, server_name: ServerName) -> None:
        """Raises `Forbidden` for a server that the room's list denies."""
        ...


class Relay(Protocol):
    """Tells other servers of events that no user of ours has sent."""

    async def relay(self, persisted: PersistedEvent, servers: Collection[str] = ()) -> None:
        """To the servers in the room before the event, and to `servers`; not to its sender's."""
        ...


class AuthChains(Protocol):
    """What events rest on."""

    async def chain_of(self, nids: Collection[int]) -> dict[EventId, int] | None:
        """The auth chain of some state events, with numbers; they themselves only where others of them rest on them. None: it
        is not known here.
        """
        ...
