"""What telling the past of rooms needs of other parts; plugged in by the wiring."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import ServerName


class Acls(Protocol):
    """The access control lists of rooms."""

    async def require(self, room: Room, server_name: ServerName) -> None:
        """Raises `Forbidden` for a server that the room's list denies."""
        ...


class ServerVisibility(Protocol):
    """Which events the users of a server could see."""

    async def visible(
        self, server_name: ServerName, room: Room, events: Sequence[PersistedEvent]
    ) -> Collection[int]:
        """Numbers of those of the events that any user of the server could see. Few queries for all of them.

        spec: server-server-api/#retrieving-events (CHECKLIST HV-05)
        """
        ...
