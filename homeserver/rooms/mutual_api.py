"""The endpoint that tells which rooms one shares with somebody.

spec: client-server-api/#mutual-rooms; MSC2666 for the unstable name, under which matrix-js-sdk asks
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from homeserver.matrix.ids import RoomId, UserId
from homeserver.rooms.mutual import MutualRooms
from homeserver.web.auth import Auth, Requester
from homeserver.web.endpoint import Name, Query, endpoint


class Mutual(msgspec.Struct, omit_defaults=True):
    """spec: op:getMutualRooms."""

    joined: list[RoomId]
    count: int
    next_batch: str | None = None


class OldMutual(Mutual, omit_defaults=True):
    """As MSC2666 had it."""

    next_batch_token: str | None = None


class MutualRoomsApi:
    """What one has in common with others."""

    def __init__(self, mutual: MutualRooms) -> None:
        self._mutual = mutual

    @endpoint("getMutualRooms", "GET", "/_matrix/client/v1/mutual_rooms", auth=Auth.USER)
    async def mutual_rooms(
        self, requester: Requester, user_id: Query[UserId], from_: Query[str | None] = None
    ) -> Mutual:
        """Lists the rooms that oneself and another user are in."""
        return Mutual(*await self._mutual.of(requester, user_id, from_))

    @endpoint(
        "getMutualRoomsUnstable",
        "GET",
        "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
        auth=Auth.USER,
    )
    async def old_mutual_rooms(
        self,
        requester: Requester,
        user_id: Query[UserId],
        from_: Annotated[Query[str | None], Name("from", "batch_token")] = None,
    ) -> OldMutual:
        """The same, under the name of its proposal."""
        found = await self._mutual.of(requester, user_id, from_)
        return OldMutual(*found, next_batch_token=found.next_batch)
