"""The forward extremities of a room: events that nobody points at yet. Every branch that arrives adds one; here they are
brought together before there are many, by an event that says nothing.

A user of ours who may speak in the room points at all of them with an `org.matrix.dummy_event`, as other servers do; clients
never see it. Where nobody may, only the newest count.
spec: server-server-api/#pdus (`prev_events`, EVT-03)
"""

from __future__ import annotations

from functools import partial

import structlog

from homeserver.events.auth_rules.power import CREATE, POWER_LEVELS, levels_in
from homeserver.events.builder import EventDraft
from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import DUMMY, JOIN, EventRef
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.head import Head
from homeserver.graph.rooms.room import Room
from homeserver.graph.write.append import MAX_PREV, GraphWriter, Send
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import UserId
from homeserver.policy.passages import system_passage

log = structlog.get_logger(__name__)

MERGE_ABOVE = 10
"""Extremities above which a dummy event is sent."""
MAX_EXTREMITIES = MAX_PREV
"""No room has more: the next event can point at all of them."""
MAX_ASKED = 5
"""Users who are tried, the most powerful first."""
MAX_TOLD = 10_000
MERGED = "forward extremities were brought together"
"""Why the server writes in the name of a user here."""


class ForwardExtremities:
    """Keeps the forward extremities of rooms few. Remembers about which rooms it has written a line to the log."""

    def __init__(self, graph: GraphWriter, rooms: Rooms, events: EventCache) -> None:
        self._graph = graph
        self._rooms = rooms
        self._events = events
        self._told: set[int] = set()
        """room_nids about which the log has a line already."""

    def newest(self, room: Room, extremities: tuple[EventRef, ...]) -> tuple[EventRef, ...]:
        """Those that count: all, or the newest that one event may point at."""
        if len(extremities) <= MAX_EXTREMITIES:
            return extremities
        if room.name.nid not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(room.name.nid)
            log.warning("forward_extremities.cut", room=room.name.room_id, extremities=len(extremities))
        return extremities[-MAX_EXTREMITIES:]

    async def merge(self, room_nid: int) -> None:
        """Bring the branches together, if there are many and one of our users may."""
        room = await self._rooms.get(room_nid)
        if len(room.extremities) <= MERGE_ABOVE:
            return
        for user_id in (await self._able(room))[:MAX_ASKED]:
            try:
                await self._graph.append(room_nid, partial(_dummy, sender=user_id), system_passage(MERGED))
            except Forbidden:
                continue
            return

    async def _able(self, room: Room) -> list[UserId]:
        """Our users in the room, the most powerful first."""
        loaded = await self._events.load(
            [room.state[key] for key in (CREATE, POWER_LEVELS) if key in room.state]
        )
        state = {each.event.key: each.event for each in loaded.values() if each.event.key is not None}
        levels = levels_in(state, room.name.version)
        ours = [user for user, member in room.members.items() if member.local and member.membership == JOIN]
        return sorted(ours, key=lambda user: (-levels.user_level(user), user))


def _dummy(head: Head, sender: UserId) -> list[Send]:
    """Nothing, if somebody else was faster."""
    if len(head.room.head_extremities) <= MERGE_ABOVE:
        return []
    return [Send(EventDraft(DUMMY, None, sender, {}))]
