"""Which servers a room lets take part: `m.room.server_acl`, for all requests and events of other servers about a room.

An ACL is read once for as long as it is the room's; what it says of a server is remembered, so that asking again costs two
dictionary lookups.

spec: client-server-api/#mroomserver_acl, server-server-api/#server-access-control-lists-acls (ACL-01 to ACL-04)
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from federation.patterns import Patterns, host_of
from federation.ports import Partners
from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.glob import OutOfWork, WorkBudget, fold
from homeserver.matrix.ids import ServerName
from homeserver.runtime.cache import Cache, MemoryBudget

SERVER_ACL: Final[StateKey] = ("m.room.server_acl", "")
SHARE: Final = 0.25
PATTERN_BYTES: Final = 300
"""What a pattern takes in memory, roughly."""
MAX_REMEMBERED: Final = 200
"""Servers of which an ACL remembers what it says."""
DENIED: Final = "This server is denied by the room's access control list"
NOT_SHARED: Final = "Your server may not take part in this room"
WORK: Final = 20_000_000
"""For all patterns of an ACL on one name: the 65 kB of an event are matched within some milliseconds (`matrix.glob`)."""


class Acl:
    """What one `m.room.server_acl` event says. Immutable but for what it remembers."""

    __slots__ = ("_allow", "_deny", "_literals", "_remembered", "size")

    def __init__(self, content: Mapping[str, Any]) -> None:
        """`content`: of the event, as anybody may have written it. What is not of the right form allows, or denies, nothing."""
        self._allow = Patterns(_texts(content.get("allow")))
        self._deny = Patterns(_texts(content.get("deny")))
        # What is no boolean counts as true.
        self._literals = content.get("allow_ip_literals") is not False
        self._remembered: dict[ServerName, bool] = {}
        self.size = 1_000 + PATTERN_BYTES * (len(self._allow) + len(self._deny)) + 100 * MAX_REMEMBERED

    def allows(self, server_name: ServerName) -> bool:
        """Whether a server, with or without its port, may take part. spec: the order of #mroomserver_acl (ACL-01)"""
        known = self._remembered.get(server_name)
        if known is None:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            known = self._remembered[server_name] = self._decide(host_of(server_name))
        return known

    def _decide(self, host: str) -> bool:
        if not self._literals and _is_ip_literal(host):
            return False
        work = WorkBudget(WORK)
        name = fold(host)
        try:
            return not self._deny.match(name, work) and self._allow.match(name, work)
        except OutOfWork:  # more than can be told is more than can be trusted
            return False


class ServerAcls:
    """The ACLs of rooms, each read once, and beside them what the configuration says of partners: every request and every event of
    another server about a room that is here is judged by both in this one place.

    Owns a cache by the number of the event that sets an ACL: what it says never changes.
    """

    def __init__(self, events: EventCache, memory: MemoryBudget, partners: Partners) -> None:
        self._events = events
        self._partners = partners
        self._acls: Cache[int, Acl] = memory.cache("server_acls", SHARE)

    async def objection(self, room: Room, server_name: ServerName) -> str | None:
        """Why a server may not send events and receipts to a room and ask about it; None: it may. Answered from memory but for the
        first time. (ACL-02)
        """
        if not await self._acl_allows(room, server_name):
            return DENIED
        if not await self._partners.may_share(server_name, room.name.room_id):
            self._partners.refused(server_name, "room", room.name.room_id)
            return NOT_SHARED
        return None

    async def allows(self, room: Room, server_name: ServerName) -> bool:
        """Whether there is no objection."""
        return await self.objection(room, server_name) is None

    async def require(self, room: Room, server_name: ServerName) -> None:
        """Raises `Forbidden` with the objection."""
        objection = await self.objection(room, server_name)
        if objection is not None:
            raise Forbidden(objection)

    async def _acl_allows(self, room: Room, server_name: ServerName) -> bool:
        nid = room.state.get(SERVER_ACL)
        if nid is None:
            return True
        acl = self._acls.get(nid)
        if acl is None:
            persisted = await self._events.one(nid)
            acl = Acl(persisted.event.content if persisted is not None else {})
            self._acls.put(nid, acl, acl.size)
        return acl.allows(server_name)


def _texts(said: object) -> list[str]:
    return [each for each in said if isinstance(each, str)] if isinstance(said, list) else []


def _is_ip_literal(host: str) -> bool:
    if host.startswith("["):
        return True
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True
