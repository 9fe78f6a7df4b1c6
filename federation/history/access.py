"""Which servers are told anything of a room: those that are in it, and those that were, of the time when they were.

spec: server-server-api/#retrieving-events, #server-access-control-lists-acls (CHECKLIST ACL-02, HV-05)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from federation.history.ports import Acls, ServerVisibility
from federation.ports import Partners
from homeserver.events.event import Event
from homeserver.events.redaction import redact_event
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import JOIN, OUTLIER, REJECTED, SOFT_FAILED
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId, ServerName, domain_of

ONLY_BY_ID: Final = SOFT_FAILED | OUTLIER
"""Flags of events that are told to nobody who does not ask for them by their IDs."""


class Standing(NamedTuple):
    """Another server and a room."""

    server_name: ServerName
    room: Room
    joined: bool
    """Whether a user of the server is in the room now."""


class ServerAccess:
    """Decides what of a room a server is told. Keeps nothing in memory."""

    def __init__(self, rooms: Rooms, acls: Acls, visibility: ServerVisibility, partners: Partners) -> None:
        self._partners = partners
        self._rooms = rooms
        self._acls = acls
        self._visibility = visibility

    async def of(self, server_name: ServerName, room_id: RoomId) -> Standing:
        """A server that is, or was, in a room. Raises `Forbidden` for all others, for whom the room's access control list denies,
        and for rooms that are not here: who may not see them does not learn which there are.
        """
        room = await self._rooms.by_id(room_id)
        if room is None:
            raise Forbidden("Your server is not in this room")
        return await self.standing(server_name, room)

    async def standing(self, server_name: ServerName, room: Room) -> Standing:
        """As `of`."""
        joined = is_joined(room, server_name)
        if not joined and not has_been(room, server_name):
            raise Forbidden("Your server is not in this room")
        await self._acls.require(room, server_name)
        self._partners.done(server_name, "served", room.name.room_id)
        return Standing(server_name, room, joined)

    async def told(
        self, standing: Standing, events: Sequence[PersistedEvent], *, by_id: bool = False
    ) -> list[Event]:
        """Those of the events that the server is told, in their order.

        What it may not see is stripped as by a redaction if it is in the room, so that it knows how events follow each other;
        it is left out if it is not. Nothing that was rejected is told; soft-failed events only `by_id`, outliers only to who
        is in the room. spec: #soft-failure (FED-13)
        """
        passed = REJECTED if by_id else REJECTED | ONLY_BY_ID
        candidates = [
            each
            for each in events
            if not each.flags & passed and (standing.joined or not each.flags & OUTLIER)
        ]
        seen = await self._visibility.visible(
            standing.server_name, standing.room, [each for each in candidates if not each.flags & OUTLIER]
        )
        told: list[Event] = []
        for each in candidates:
            if each.nid in seen or (each.flags & OUTLIER and each.event.is_state):
                told.append(each.event)
            elif standing.joined:
                told.append(redact_event(each.event))
        return told

    async def visible(self, standing: Standing, events: Sequence[PersistedEvent]) -> Collection[int]:
        """Numbers of those of the events that users of the server could see."""
        shown = [each for each in events if not each.hidden]
        return await self._visibility.visible(standing.server_name, standing.room, shown)

    async def saw(self, standing: Standing, event: PersistedEvent) -> bool:
        """Whether the server is in the room, or could see this event."""
        if standing.joined:
            return True
        return event.nid in await self._visibility.visible(standing.server_name, standing.room, [event])


def is_joined(room: Room, server_name: ServerName) -> bool:
    """Whether a user of the server is in the room."""
    return any(
        member.membership == JOIN and domain_of(user_id) == server_name
        for user_id, member in room.members.items()
    )


def has_been(room: Room, server_name: ServerName) -> bool:
    """Whether the room knows of any user of the server: one who has left, was invited or banned."""
    return any(domain_of(user_id) == server_name for user_id in room.members)
