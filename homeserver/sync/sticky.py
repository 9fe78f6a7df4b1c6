"""Sticky events as `/sync` and sliding sync tell them: those that came since the client was here, and of rooms that are new to it
all, but for what stands in the timeline of the same answer.

Whoever is in a room sees them, whatever its history visibility. spec: MSC4354, MSC4480
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.visibility import Visible
from homeserver.graph.refs import JOIN
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.write.sticky import Sticky, StickyEvents
from homeserver.log.entries import Position
from homeserver.sync.types import SyncRequest

NAME: Final = "msc4354_sticky"
"""Of the section."""
NOTHING: Final = frozenset[int]()


class StickyPage(NamedTuple):
    """What one answer tells."""

    rooms: Mapping[int, Sequence[Visible]]
    upto: Position
    """Up to where it is everything."""


class StickySections:
    """Selects what is told. Keeps nothing in memory."""

    def __init__(self, sticky: StickyEvents, events: EventCache, rooms: Rooms) -> None:
        self._sticky = sticky
        self._events = events
        self._rooms = rooms

    @property
    def nothing(self) -> bool:
        """Whether it is known that nothing is sticky anywhere."""
        return self._sticky.nothing

    async def among(
        self, request: SyncRequest, since: Position, room_nids: AbstractSet[int]
    ) -> Collection[int]:
        """Those of the rooms in which something may be new to who was here at `since`, or which are new to them. No query but after
        a start.
        """
        await self._sticky.load()
        rooms, memberships = self._sticky.rooms, request.memberships
        if len(rooms) > len(room_nids):
            rooms = list(room_nids)
        newest = self._sticky.newest
        return [
            nid
            for nid in rooms
            if nid in room_nids
            and newest(nid) > 0
            and (newest(nid) > since or memberships[nid].position > since)
        ]

    async def page(
        self,
        request: SyncRequest,
        since: Position,
        rooms: Collection[int],
        shown: Mapping[int, Collection[int]],
        limit: int | None = None,
    ) -> StickyPage:
        """`since`: where the client was; 0: nowhere. `rooms`: as `among` has them, and the user is joined to; `shown`: room_nid ->
        events that the answer tells beside. `limit`: of those after `since`, the oldest; what a room that is new to the client has
        of before is told whole. At most one query for events that are not in memory.
        """
        before: list[tuple[int, Sticky]] = []
        after: list[tuple[int, Sticky]] = []
        loaded = await self._rooms.get_many(rooms)
        for nid, room in loaded.items():
            member = room.members.get(request.requester.user_id)
            if member is None or member.membership != JOIN:
                continue
            start = 0 if member.since > since else since
            there = shown.get(nid, NOTHING)
            for each in self._sticky.of(nid, start, request.upto):
                if each.event_nid not in there:
                    (after if each.position > since else before).append((nid, each))
        after.sort(key=lambda item: item[1].position)
        upto = request.upto
        if limit is not None and len(after) > limit:
            after = after[:limit]
            upto = after[-1][1].position
        found: dict[int, list[Visible]] = {}
        events = await self._events.load([each.event_nid for _, each in (*before, *after)])
        for nid, each in (*before, *after):
            persisted = events.get(each.event_nid)
            if persisted is not None and _is_told(persisted, request):
                found.setdefault(nid, []).append(Visible(persisted, None))
        return StickyPage(found, upto)


def _is_told(persisted: PersistedEvent, request: SyncRequest) -> bool:
    """spec: MSC4480: those of ignored users are not"""
    return (
        persisted.sticky_until > request.now_ms
        and not persisted.hidden
        and persisted.event.sender not in request.ignored
    )
