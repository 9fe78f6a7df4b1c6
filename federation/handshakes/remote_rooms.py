"""Rooms of other servers, as `rooms` asks for them."""

from __future__ import annotations

from federation.handshakes.entering import Entering
from federation.handshakes.inviting import Inviting
from federation.handshakes.leaving import Leaving
from homeserver.events.event import Event
from homeserver.graph.rooms.room import Room
from homeserver.rooms.ports import RemoteWish


class FederatedRooms:
    """Fulfils `RemoteRooms`. Keeps nothing in memory."""

    def __init__(self, entering: Entering, leaving: Leaving, inviting: Inviting) -> None:
        self._entering = entering
        self.under_way = entering.under_way
        self._leaving = leaving
        self._inviting = inviting

    async def join(self, wish: RemoteWish) -> None:
        """See `RemoteRooms`."""
        await self._entering.join(wish)

    async def knock(self, wish: RemoteWish) -> None:
        """See `RemoteRooms`."""
        await self._entering.knock(wish)

    async def leave(self, wish: RemoteWish) -> None:
        """See `RemoteRooms`."""
        await self._leaving.leave(wish)

    async def signed_invite(self, invite: Event, room: Room) -> Event:
        """See `RemoteRooms`."""
        return await self._inviting.signed(invite, room)
