"""Rooms that go on without this server, and users of other servers: what membership does there, through `RemoteRooms`.

spec: client-server-api/#room-membership, server-server-api/#joining-rooms, #inviting-to-a-room
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from homeserver.events.builder import EventDraft
from homeserver.graph.refs import REJECTED, SOFT_FAILED
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import GraphWriter, Send
from homeserver.graph.write.receive import Receiver
from homeserver.matrix.errors import Forbidden, MatrixError, NotFound
from homeserver.matrix.ids import EventId, ServerName, UserId, domain_of
from homeserver.rooms.ports import RemoteRooms, RemoteWish

_log = structlog.get_logger("atrium.rooms")

MEMBER = "m.room.member"
AT_ONCE = 10
"""Servers that are asked at the same time for one new room."""


class Elsewhere:
    """Acts of membership that need another server. Without federation there is none."""

    def __init__(self, graph: GraphWriter, rooms: Rooms, receiver: Receiver, server_name: ServerName) -> None:
        self._graph = graph
        self._rooms = rooms
        self._receiver = receiver
        self._server_name = server_name
        self._remote: RemoteRooms | None = None

    def ask_with(self, remote: RemoteRooms) -> None:
        """Plug in who asks other servers."""
        self._remote = remote

    @property
    def possible(self) -> bool:
        """Whether other servers can be asked at all."""
        return self._remote is not None

    def is_remote(self, user_id: UserId) -> bool:
        """Whether somebody is a user of another server."""
        return domain_of(user_id) != self._server_name

    async def join(self, wish: RemoteWish) -> Room:
        """The room, which this server is in now. Raises as `RemoteRooms.join`, `NotFound` without federation."""
        await self._ask().join(wish)
        return await self._rooms.known(wish.room_id)

    async def knock(self, wish: RemoteWish) -> None:
        """Raises as `RemoteRooms.knock`, `NotFound` without federation."""
        await self._ask().knock(wish)

    async def leave(self, wish: RemoteWish) -> None:
        """Turn down an invite or take back a knock. Raises `NotFound` without federation."""
        await self._ask().leave(wish)

    async def invite(self, room: Room, draft: EventDraft) -> EventId:
        """Invite a user of another server: theirs agrees first, then the room learns of it. The event; of who is invited already
        the one there is.

        Raises `Forbidden` for what the room does not allow, and what the other server says (`RemoteRooms.signed_invite`).
        """
        target = UserId(str(draft.state_key))

        there: list[EventId] = []

        def plan(head: Head) -> Sequence[Send]:
            if not head.is_joined(draft.sender):
                raise Forbidden("You are not in this room")
            if head.membership(target) != "invite":
                return [Send(draft)]
            invited = head.event((MEMBER, target))
            there.extend([invited.event_id] if invited is not None else [])
            return []

        for invite in await self._graph.drafted(room.name.nid, plan):
            signed = await self._ask(target).signed_invite(invite, room)
            persisted = await self._receiver.receive(signed)
            if persisted.flags & (REJECTED | SOFT_FAILED):
                raise Forbidden("The room does not allow that any more")
            there.append(persisted.event.event_id)
        return there[-1]

    async def invite_all(self, room_nid: int, drafts: Sequence[EventDraft]) -> None:
        """Invite users of other servers into a room that was just made. Who cannot be invited is not: the room is there all the
        same, and says who is.
        """
        room = await self._rooms.get(room_nid)

        async def invite(draft: EventDraft) -> None:
            async with turns:
                try:
                    await self.invite(room, draft)
                except MatrixError as refusal:
                    _log.warning("rooms.invite_refused", room=room.name.room_id, why=refusal.error)

        turns = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for draft in drafts:
                group.create_task(invite(draft))

    def _ask(self, target: UserId | None = None) -> RemoteRooms:
        if self._remote is None:
            if target is not None:
                raise Forbidden(
                    f"This server does not speak with others, and {target} is a user of another one"
                )
            raise NotFound("No server known to be in that room")
        return self._remote
