"""Which servers a room lets take part: `m.room.server_acl`, for all requests and events of other servers about a room.

An ACL is read once for as long as it is the room's; what it says of a server is remembered, so that asking again costs two
dictionary lookups.

spec: client-server-api/#mroomserver_acl, server-server-api/#server-access-control-lists-acls (ACL-01 to ACL-04)
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from homeserver.events.event import StateKey
from homeserver.graph.event_cache import EventCache
from homeserver.graph.rooms.room import Room
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.glob import Glob, OutOfWork, WorkBudget, fold, is_literal
from homeserver.matrix.ids import ServerName
from homeserver.runtime.cache import Cache, MemoryBudget

SERVER_ACL: Final[StateKey] = ("m.room.server_acl", "")
SHARE: Final = 0.25
PATTERN_BYTES: Final = 300
"""What a pattern takes in memory, roughly."""
MAX_REMEMBERED: Final = 200
"""Servers of which an ACL remembers what it says."""
WORK: Final = 20_000_000
"""For all patterns of an ACL on one name: the 65 kB of an event are matched within some milliseconds (`matrix.glob`)."""


class Acl:
    """What one `m.room.server_acl` event says. Immutable but for what it remembers."""

    __slots__ = ("_allow", "_deny", "_literals", "_remembered", "size")

    def __init__(self, content: Mapping[str, Any]) -> None:
        """`content`: of the event, as anybody may have written it. What is not of the right form allows, or denies, nothing."""
        self._allow = _Names(content.get("allow"))
        self._deny = _Names(content.get("deny"))
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
            known = self._remembered[server_name] = self._decide(_host_of(server_name))
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


class _Names:
    """A list of patterns with an index: names as such in one set, what begins with `*` and is plain otherwise by its end."""

    __slots__ = ("_endings", "_everything", "_globs", "_lengths", "_plain")

    def __init__(self, patterns: object) -> None:
        texts = (
            {fold(each) for each in patterns if isinstance(each, str)}
            if isinstance(patterns, list)
            else set()
        )
        self._everything = "*" in texts
        self._plain = {text for text in texts if is_literal(text)}
        self._endings = {text[1:] for text in texts if text[:1] == "*" and text[1:] and is_literal(text[1:])}
        self._lengths = sorted({len(ending) for ending in self._endings})
        rest = texts - self._plain - {"*" + ending for ending in self._endings} - {"*"}
        self._globs = [Glob(text) for text in sorted(rest)]

    def __len__(self) -> int:
        return len(self._plain) + len(self._endings) + len(self._globs)

    def match(self, name: str, work: WorkBudget) -> bool:
        """Whether one of them fits. Raises `OutOfWork`."""
        if self._everything or name in self._plain:
            return True
        if any(length <= len(name) and name[-length:] in self._endings for length in self._lengths):
            return True
        return any(glob.matches(name, work) for glob in self._globs)


class ServerAcls:
    """The ACLs of rooms, each read once. Owns a cache by the number of the event that sets an ACL: what it says never changes."""

    def __init__(self, events: EventCache, memory: MemoryBudget) -> None:
        self._events = events
        self._acls: Cache[int, Acl] = memory.cache("server_acls", SHARE)

    async def allows(self, room: Room, server_name: ServerName) -> bool:
        """Whether a server may send events and receipts to a room and ask about it. Answered from memory but for the first time."""
        nid = room.state.get(SERVER_ACL)
        if nid is None:
            return True
        acl = self._acls.get(nid)
        if acl is None:
            persisted = await self._events.one(nid)
            acl = Acl(persisted.event.content if persisted is not None else {})
            self._acls.put(nid, acl, acl.size)
        return acl.allows(server_name)

    async def require(self, room: Room, server_name: ServerName) -> None:
        """Raises `Forbidden` for a server that the room's ACL denies. (ACL-02)"""
        if not await self.allows(room, server_name):
            raise Forbidden("This server is denied by the room's access control list")


def _host_of(server_name: str) -> str:
    """Without the port."""
    host, colon, port = server_name.rpartition(":")
    return host if colon and port.isdecimal() and (host.endswith("]") or ":" not in host) else server_name


def _is_ip_literal(host: str) -> bool:
    if host.startswith("["):
        return True
    try:
        IPv4Address(host)
    except AddressValueError:
        return False
    return True
