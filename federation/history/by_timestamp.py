"""The event of a room closest to a moment, of those that another server may see.

spec: op:getEventByTimestamp (server-server) (CHECKLIST FED-44)
"""

from __future__ import annotations

from collections.abc import Sequence

from federation.history.access import ServerAccess
from homeserver.events.event import Event
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.matrix.ids import RoomId, ServerName
from homeserver.rooms import by_timestamp


class EventsByTimestamp:
    """Answers for other servers. Keeps nothing in memory."""

    def __init__(self, access: ServerAccess, search: by_timestamp.EventsByTimestamp) -> None:
        self._access = access
        self._search = search

    async def closest(self, server_name: ServerName, room_id: RoomId, ts: int, *, backwards: bool) -> Event:
        """Raises `Forbidden` for a server that has nothing to do with the room, `NotFound`."""
        standing = await self._access.of(server_name, room_id)

        async def first(events: Sequence[PersistedEvent]) -> PersistedEvent | None:
            seen = await self._access.visible(standing, events)
            return next((each for each in events if each.nid in seen), None)

        found = await self._search.first_of(standing.room.name.nid, ts, backwards=backwards, first=first)
        if found is None:
            raise by_timestamp.none_found(ts, backwards=backwards)
        return found.event
