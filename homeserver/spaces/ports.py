"""What spaces need of others; plugged in by the wiring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from homeserver.matrix.ids import RoomId, ServerName
from homeserver.spaces.types import Branch


class RemoteSpaces(Protocol):
    """Fulfilled by federation."""

    async def fetch(
        self, room_id: RoomId, via: Sequence[ServerName], *, suggested_only: bool
    ) -> Branch | None:
        """A room that is not here, as one of these servers tells it; None if none of them does. Answers are kept for some
        minutes, bounded in number and bytes. Raises nothing for what others do.

        spec: server-server-api/#spaces (CHECKLIST SPACE-04)
        """
        ...
