"""What of a room's past is not here, asked of other servers when somebody looks for it.

spec: server-server-api/#backfilling-and-retrieving-missing-events
"""

from __future__ import annotations

from typing import Final

from homeserver.graph.gaps import OLDEST
from homeserver.graph.read.pages import Pages
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Position
from homeserver.rooms.ports import Backfiller
from homeserver.web.auth import Requester

MAX_ROUNDS: Final = 3
"""How often other servers are asked for one answer."""
FOUND_AT_ONCE: Final = 100
"""Older events that they are asked for at a time."""


class OlderHistory:
    """Asks for pieces of what is missing, the newest first. Keeps nothing in memory."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._backfiller: Backfiller | None = None

    def find_with(self, backfiller: Backfiller) -> None:
        """Plug in who asks other servers."""
        self._backfiller = backfiller

    async def is_missing(self, requester: Requester, room: Room, after: Position = OLDEST) -> bool:
        """Whether something newer than a place may be had elsewhere by a user. No query where the room has no gaps."""
        if self._backfiller is None or room.membership(requester.user_id) != JOIN:
            return False
        return bool(await self._pages.open_gaps(room.name.nid, after, room.last_event))

    async def fetch(self, requester: Requester, room: Room, after: Position = OLDEST) -> bool:
        """Ask for a piece of it; whether any came. Bounded in time; raises nothing for what others say."""
        if self._backfiller is None or room.membership(requester.user_id) != JOIN:
            return False
        gaps = await self._pages.open_gaps(room.name.nid, after, room.last_event)
        for gap in gaps[:MAX_ROUNDS]:
            if await self._backfiller.find_older(requester, room.name, gap.missing, FOUND_AT_ONCE):
                return True
        return False
