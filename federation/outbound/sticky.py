"""Sticky events of our users, for servers that would not hear of them otherwise: those that come into a room, and those that were
away for so long that they are told the last events alone.

spec: MSC4354, "Federation behaviour"
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import structlog

from federation.outbound.relays import RelayEntry
from federation.outbound.room_servers import RoomServers
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.read.visibility import VisibilityFilter
from homeserver.graph.refs import MEMBER, OUTLIER, REJECTED, SOFT_FAILED
from homeserver.graph.write.sticky import StickyEvents
from homeserver.log.entries import Position
from homeserver.log.writer import LogWriter
from homeserver.matrix.ids import ServerName, domain_of, is_server_name

log = structlog.get_logger(__name__)

MOST: Final = 200
"""Events that a server is sent so: the newest."""


class OwnSticky:
    """Finds sticky events of our users, and has them sent to who comes into a room. Keeps nothing."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        sticky: StickyEvents,
        events: EventCache,
        servers: RoomServers,
        visibility: VisibilityFilter,
        writer: LogWriter,
        server_name: ServerName,
    ) -> None:
        self._sticky = sticky
        self._events = events
        self._servers = servers
        self._visibility = visibility
        self._log = writer
        self._server_name = server_name

    async def of_rooms(
        self, room_nids: Collection[int], after: Position, upto: Position
    ) -> list[PersistedEvent]:
        """Of these rooms in (after, upto], in the order of the log; not those of erased users."""
        await self._sticky.load()
        if self._sticky.nothing:
            return []
        nids = sorted(each.event_nid for nid in room_nids for each in self._sticky.of(nid, after, upto))
        erased = await self._visibility.erased()
        found = await self._events.load(nids)
        own = [found[nid] for nid in nids if nid in found and self._is_own(found[nid])]
        return [each for each in own if each.sender_nid not in erased][-MOST:]

    async def everywhere(self, after: Position, upto: Position) -> list[PersistedEvent]:
        """Likewise of all rooms."""
        await self._sticky.load()
        return await self.of_rooms(self._sticky.rooms, after, upto)

    def _is_own(self, persisted: PersistedEvent) -> bool:
        return not persisted.hidden and domain_of(persisted.event.sender) == self._server_name

    async def tell_newcomer(self, persisted: PersistedEvent) -> None:
        """If with this event a server comes into a room: it is to be sent what is sticky there. Returns when that is sure."""
        event = persisted.event
        if event.type != MEMBER or event.state_key is None or event.membership != "join":
            return
        server = domain_of(event.state_key)
        if server == self._server_name or persisted.flags & (REJECTED | SOFT_FAILED | OUTLIER):
            return
        own = await self.of_rooms([persisted.room_nid], 0, persisted.nid)
        if not own or not is_server_name(server) or server in await self._servers.before(persisted):
            return
        log.info("federation.sticky_events_for_newcomer", destination=server, events=len(own))
        await self._log.append(*(RelayEntry(each.nid, (server,)) for each in own))
