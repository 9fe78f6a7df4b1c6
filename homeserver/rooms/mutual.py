"""Rooms that two users are both in.

spec: client-server-api/#mutual-rooms (CHECKLIST USER-07)
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from homeserver.graph.interning import Interning
from homeserver.matrix.errors import InvalidParam
from homeserver.matrix.ids import RoomId, UserId
from homeserver.rooms import store
from homeserver.rooms.memberships import Memberships
from homeserver.storage.database import Database
from homeserver.web.auth import Requester

PAGE: Final = 500
"""Rooms of one answer."""
_TOKEN: Final = re.compile(r"m([0-9]{1,18})", re.ASCII)


class Shared(NamedTuple):
    """Some of the rooms."""

    joined: list[RoomId]
    total: int
    """Of all of them."""
    next_batch: str | None


class MutualRooms:
    """Answers from the memberships of both. Keeps nothing in memory."""

    def __init__(self, db: Database, memberships: Memberships, interning: Interning) -> None:
        self._db = db
        self._memberships = memberships
        self._interning = interning

    async def of(self, requester: Requester, other: UserId, token: str | None) -> Shared:
        """Those after a token, which stays good: it says where in the order of the rooms to go on. Nobody of that name: no
        rooms. Raises `InvalidParam` for oneself, and for what is no token.
        """
        if other == requester.user_id:
            raise InvalidParam("user_id: this is you")
        after = _place(token)
        numbers = await self._interning.find_user_nids([other])
        own = (await self._memberships.of(requester.user_nid)).joined
        if other not in numbers or not own:
            return Shared([], 0, None)
        async with self._db.read() as tx:
            shared = await store.find_joined(tx, numbers[other], own)
        page = [nid for nid in shared if nid > after][: PAGE + 1]
        names = await self._interning.rooms(page[:PAGE])
        return Shared(
            [names[nid].room_id for nid in page[:PAGE]],
            len(shared),
            f"m{page[PAGE - 1]}" if len(page) > PAGE else None,
        )


def _place(token: str | None) -> int:
    if token is None:
        return 0
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise InvalidParam("from: not a token of this server")
    return int(found[1])
