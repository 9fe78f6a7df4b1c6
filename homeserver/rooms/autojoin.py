"""Rooms that every new account joins, as configured (`registration.autojoin_rooms`). Fulfils `JoinFirstRooms`."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from homeserver.graph.interning import Interning
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import UserId
from homeserver.rooms.aliases import AliasService
from homeserver.rooms.membership import MembershipService
from homeserver.web.auth import Requester

_log = structlog.get_logger("atrium.rooms")


class AutoJoin:
    """Joins them one by one. A room that is missing or closed is noted and passed over."""

    def __init__(
        self, aliases: AliasService, membership: MembershipService, interning: Interning, rooms: Sequence[str]
    ) -> None:
        self._aliases = aliases
        self._membership = membership
        self._interning = interning
        self._rooms = rooms

    async def join_first_rooms(self, user_id: UserId) -> None:
        """May be called again after a crash: joining twice does nothing."""
        requester = Requester(user_id=user_id, user_nid=await self._interning.user_nid(user_id))
        for room in self._rooms:
            try:
                await self._membership.join(requester, await self._aliases.resolve(room))
            except MatrixError as refusal:
                _log.warning("autojoin_refused", room=room, user_id=user_id, why=refusal.error)
