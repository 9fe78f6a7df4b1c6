"""Users of ours turn down invites to rooms that this server is not in, and take back knocks on them.

Another server is asked to take the event into the room. Where none does in time, it is done here alone: nobody keeps an invite
because a server is gone.
spec: server-server-api/#leaving-rooms-rejecting-invites (FED-28, JOIN-04)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from federation.handshakes.asking import Residency
from federation.handshakes.entering import Candidates
from federation.handshakes.templates import Template, Wish
from federation.ports import RemoteFault
from homeserver.events.builder import reference_to
from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import INVITE, KNOCK
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.beside import MembershipsBeside, NotAway, Unfit
from homeserver.log.keyed_locks import KeyedLocks
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import ServerName
from homeserver.rooms.ports import RemoteWish

_log = structlog.get_logger("atrium.federation.handshakes")

PATIENCE: Final = 20.0
"""Seconds that somebody waits for other servers."""


class Leaving:
    """Turns down and takes back. Owns who is at it in this process."""

    def __init__(
        self,
        rooms: Rooms,
        events: EventCache,
        beside: MembershipsBeside,
        residency: Residency,
        candidates: Candidates,
    ) -> None:
        self._rooms = rooms
        self._events = events
        self._beside = beside
        self._residency = residency
        self._candidates = candidates
        self._turns = KeyedLocks()

    async def leave(self, wish: RemoteWish) -> None:
        """See `RemoteRooms.leave`. Nothing if there is nothing to turn down or take back any more."""
        async with self._turns.of((wish.room_id, wish.user_id)):
            room = await self._rooms.known(wish.room_id)
            member = room.members.get(wish.user_id)
            pending = await self._events.one(member.event_nid) if member is not None else None
            if member is None or pending is None or member.membership not in (INVITE, KNOCK):
                return
            wanted = Wish(wish.room_id, wish.user_id, "leave", wish.content)
            event = await self._told(wanted, await self._servers(wish, room))
            if event is None:
                event = self._alone(wanted, pending)
            try:
                await self._beside.put(event, wish.passage)
            except (NotAway, Unfit):
                raise Forbidden("This server has just joined the room, try again") from None

    async def _servers(self, wish: RemoteWish, room: Room) -> list[ServerName]:
        try:
            return await self._candidates.of(wish, room)
        except Forbidden:  # an invite may be older than what forbids to speak with who has sent it
            return []

    async def _told(self, wanted: Wish, servers: Sequence[ServerName]) -> Event | None:
        """The event that another server has taken into the room; None: none has."""
        try:
            async with asyncio.timeout(PATIENCE):
                for server in servers:
                    try:
                        template = await self._residency.template(server, wanted)
                        event = self._residency.event(template, wanted)
                        await self._residency.send_leave(server, event)
                    except RemoteFault as fault:
                        _log.info("handshakes.refused", what="leave", server=server, why=fault.problem)
                        continue
                    return event
        except TimeoutError:
            pass
        _log.warning("handshakes.left_alone", room=wanted.room_id, servers=len(servers))
        return None

    def _alone(self, wanted: Wish, pending: PersistedEvent) -> Event:
        """The event as no other server will have it."""
        before = pending.event
        reference = reference_to(before)
        depth = min(before.depth + 1, before.room_version.max_depth)
        template = Template(before.room_version, [reference], [reference], depth, None)
        return self._residency.event(template, wanted)
