"""What finding rooms needs of other servers; plugged in by the wiring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from homeserver.directory.listing import ListBody, RoomList
from homeserver.directory.types import RoomSummary
from homeserver.matrix.ids import RoomId, ServerName


class RemoteDirectories(Protocol):
    """Fulfilled by federation."""

    async def list_rooms(self, server_name: ServerName, body: ListBody) -> RoomList:
        """A page of another server's list. Raises `NotFound`, `Forbidden` as it says; `Unavailable` (502) where it cannot be
        asked.
        """
        ...


class RemoteSummaries(Protocol):
    """Fulfilled by federation."""

    async def summary(self, room_id: RoomId, via: Sequence[ServerName]) -> RoomSummary | None:
        """A room that is not here, as one of these servers tells it; None if none of them does."""
        ...
