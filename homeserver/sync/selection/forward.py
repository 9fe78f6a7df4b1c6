"""What happens in all rooms of a user, in the order of the log.

spec: op:getEvents (SYNC-24)
"""

from __future__ import annotations

from collections.abc import Mapping

from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import BAN, JOIN, LEAVE
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Position
from homeserver.rooms.memberships import Membership
from homeserver.storage.database import Database
from homeserver.sync.selection import store
from homeserver.sync.selection.store import Span


class ForwardSelector:
    """Selects the first events after a position. Keeps nothing in memory."""

    def __init__(self, db: Database, rooms: Rooms, events: EventCache) -> None:
        self._db = db
        self._rooms = rooms
        self._events = events

    async def after(
        self, rooms: Mapping[int, Membership], since: Position, upto: Position, most: int
    ) -> tuple[list[PersistedEvent], Position]:
        """At most so many events in the order of the log, and up to where these are all. At most two queries."""
        spans: list[Span] = []
        invites: list[Position] = []
        for room_nid, own in rooms.items():
            if own.membership == JOIN:
                room = self._rooms.cached(room_nid)
                if room is None or room.last_event > since:
                    spans.append(Span(room_nid, upto))
            elif own.membership in (LEAVE, BAN):
                if own.position > since and not own.forgotten:
                    spans.append(Span(room_nid, own.position))
            elif own.event_nid > since:
                invites.append(own.event_nid)
        nids: list[Position] = []
        if spans:
            async with self._db.read() as tx:
                nids = [nid for nid, _ in await store.find_events_after(tx, spans, since, most)]
        nids = sorted({*nids, *invites})[:most]
        loaded = await self._events.load(nids)
        end = nids[-1] if len(nids) == most else upto
        return [loaded[nid] for nid in nids if nid in loaded], end
