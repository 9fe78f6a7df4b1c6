"""Whom an item of the log concerns: the servers that were in the room before an event, and those it removes somebody from.

Only events of our own users leave by this way, and relays that were asked for (`relays`). Soft-failed, rejected and backfilled
events and outliers never do. Servers that an ACL denies are told like others while they are in the room.
spec: client-server-api/#server-access-control-lists-acls-for-rooms (CHECKLIST ACL-04)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

import structlog

from federation.outbound.edus import Durable
from federation.outbound.relays import RelayEntry
from federation.outbound.room_servers import NOBODY, RoomServers, Servers
from federation.outbound.sticky import OwnSticky
from federation.ports import Partners
from homeserver.graph.event_cache import EventCache
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import OUTLIER, REJECTED, SOFT_FAILED
from homeserver.log.readers.types import Item
from homeserver.matrix import json
from homeserver.matrix.ids import ServerName, domain_of, is_server_name

log = structlog.get_logger(__name__)

NEVER_SENT: Final = REJECTED | SOFT_FAILED | OUTLIER
PRESENT: Final = ("join", "invite", "knock")
"""Memberships whose end the user's server is told of though nobody else of it may be in the room."""


class Interest:
    """Answers the reader. Keeps nothing."""

    def __init__(
        self,
        servers: RoomServers,
        events: EventCache,
        sticky: OwnSticky,
        partners: Partners,
        server_name: ServerName,
    ) -> None:
        self._partners = partners
        self._servers = servers
        self._sticky = sticky
        self._events = events
        self._server_name = server_name

    async def of(self, items: Sequence[Item[Any]]) -> list[Collection[str]]:
        """See `Reader.interest`."""
        wanted: list[Collection[str]] = [NOBODY] * len(items)
        durable: dict[int, list[int]] = {}
        for number, (_, value) in enumerate(items):
            if isinstance(value, PersistedEvent):
                if self.is_ours(value):
                    wanted[number] = await self.of_event(value)
                else:
                    await self._sticky.tell_newcomer(value)
            elif isinstance(value, Durable):
                durable.setdefault(id(value.source), []).append(number)
            else:
                wanted[number] = await self._of_relay(value)
        for numbers in durable.values():
            source = items[numbers[0]].value.source
            asked = [Item(items[number].position, items[number].value.value) for number in numbers]
            for number, servers in zip(numbers, await source.concerned(asked), strict=True):
                wanted[number] = servers
        return wanted

    def is_ours(self, persisted: PersistedEvent) -> bool:
        """Whether it is an event that our users have made and that others are told of."""
        return not persisted.flags & NEVER_SENT and domain_of(persisted.event.sender) == self._server_name

    async def of_event(self, persisted: PersistedEvent) -> Servers:
        """The other servers that are told of an event: those in the room before it, and that of whom it removes. A join by another
        server was given to that one, which tells the others (server-server-api/#joining-rooms).
        """
        servers = await self._servers.before(persisted)
        if servers and persisted.event.membership == "join" and await self._servers.was_told(persisted):
            return NOBODY
        removed = removed_from(persisted)
        if removed is not None and removed not in servers and self._reaches(removed):
            return servers | {removed}
        return servers

    async def _of_relay(self, relay: RelayEntry) -> Servers:
        persisted = await self._events.one(relay.event_nid)
        if persisted is None or persisted.flags & NEVER_SENT:
            return NOBODY
        others = [ServerName(each) for each in relay.servers if is_server_name(each) and self._reaches(each)]
        named = frozenset(await self._partners.sharing(others, persisted.event.room_id))
        if domain_of(persisted.event.sender) == self._server_name:  # those in the room have had it
            return named
        servers = await self.of_event(persisted) | named
        return servers - {domain_of(persisted.event.sender), self._server_name}

    def _reaches(self, server: str) -> bool:
        """Whether it is another server that is spoken with. Nothing waits for one that is not, were it for good."""
        return server != self._server_name and self._partners.may_speak(ServerName(server))


def removed_from(persisted: PersistedEvent) -> str | None:
    """The server of a user who was in the room, invited or knocking before an event and is not after it.

    It is told although it may not be in the room: a rescinded invite, a denied knock. An invite is not sent by this way, but
    with `PUT /invite`.
    """
    event = persisted.event
    if event.type != "m.room.member" or persisted.replaced is None or event.state_key is None:
        return None
    if event.membership not in ("leave", "ban"):
        return None
    before = json.loads(persisted.replaced.content).get("membership")
    server = domain_of(event.state_key)
    return server if before in PRESENT and is_server_name(server) else None
