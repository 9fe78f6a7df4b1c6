"""Typing, public receipts and presence of our users, as EDUs.

spec: server-server-api/#typing-notifications, #receipts, #presence (CHECKLIST EPH-02, FED-29, FED-35)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from federation.outbound.edus import News
from federation.outbound.room_servers import NOBODY, RoomServers, Servers
from federation.ports import Partners
from homeserver.graph.interning import Interning
from homeserver.matrix.ids import RoomId, ServerName, domain_of
from homeserver.presence.service import ACTIVE_MS
from homeserver.presence.types import PresenceEntry
from homeserver.receipts.types import READ, UNTHREADED, ReceiptEntry
from homeserver.rooms.memberships import Memberships
from homeserver.typing.entries import TypingEntry

MAX_ROOMS = 1_000
"""Rooms of a user whose servers are told of their presence."""
PRESENCES_AT_ONCE = 50
"""Users in one presence EDU."""


class _RoomEdus:
    """What our users do in a room, told to the servers in it."""

    def __init__(self, servers: RoomServers, interning: Interning, server_name: ServerName) -> None:
        self._servers = servers
        self._interning = interning
        self._server_name = server_name

    async def _told(self, room_nid: int) -> tuple[RoomId, Servers] | None:
        """The room's id, and the other servers in it; None where there are none."""
        servers = await self._servers.now(room_nid)
        if not servers:
            return None
        return (await self._interning.rooms([room_nid]))[room_nid].room_id, servers


class TypingEdus(_RoomEdus):
    """spec: server-server-api/#mtyping-edu"""

    edu_type = "m.typing"
    entry_type = TypingEntry
    delay = 0.05
    keeps = False

    async def news(self, entry: TypingEntry) -> News | None:
        """See `EphemeralEdus.news`."""
        if domain_of(entry.user_id) != self._server_name:
            return None
        if (told := await self._told(entry.room_nid)) is None:
            return None
        room_id, servers = told
        content = {"room_id": room_id, "user_id": entry.user_id, "typing": entry.typing}
        return News((entry.room_nid, entry.user_nid), content, servers)

    def contents(self, values: Sequence[Any], now_ms: int) -> Sequence[Any]:
        """See `EphemeralEdus.contents`."""
        del now_ms
        return values


class _Receipt(NamedTuple):
    room_id: str
    user_id: str
    thread: str
    event_id: str
    ts_ms: int


class ReceiptEdus(_RoomEdus):
    """Public receipts alone. spec: server-server-api/#receipts (EPH-02, FED-35)"""

    edu_type = "m.receipt"
    entry_type = ReceiptEntry
    delay = 0.5
    keeps = True

    async def news(self, entry: ReceiptEntry) -> News | None:
        """See `EphemeralEdus.news`."""
        if entry.type != READ or domain_of(entry.user_id) != self._server_name:
            return None
        if (told := await self._told(entry.room_nid)) is None:
            return None
        room_id, servers = told
        receipt = _Receipt(room_id, entry.user_id, entry.thread, entry.event_id, entry.ts_ms)
        return News((entry.room_nid, entry.user_nid, entry.thread), receipt, servers)

    def contents(self, values: Sequence[_Receipt], now_ms: int) -> Sequence[Any]:
        """See `EphemeralEdus.contents`. An EDU has room for one receipt of a user in a room: threads go into further ones."""
        del now_ms
        edus: list[dict[str, dict[str, dict[str, Any]]]] = []
        for room_id, user_id, thread, event_id, ts_ms in values:
            data: dict[str, Any] = {"ts": ts_ms}
            if thread != UNTHREADED:
                data["thread_id"] = thread
            said = {"event_ids": [event_id], "data": data}
            for content in edus:
                users = content.setdefault(room_id, {"m.read": {}})["m.read"]
                if user_id not in users:
                    users[user_id] = said
                    break
            else:
                edus.append({room_id: {"m.read": {user_id: said}}})
        return edus


class PresenceEdus:
    """spec: server-server-api/#presence"""

    edu_type = "m.presence"
    entry_type = PresenceEntry
    delay = 1.0
    keeps = False

    def __init__(
        self, servers: RoomServers, memberships: Memberships, server_name: ServerName, partners: Partners
    ) -> None:
        self._servers = servers
        self._partners = partners
        self._memberships = memberships
        self._server_name = server_name

    async def news(self, entry: PresenceEntry) -> News | None:
        """See `EphemeralEdus.news`. A beat says nothing new."""
        if entry.beat or domain_of(entry.user_id) != self._server_name:
            return None
        rooms = (await self._memberships.of(entry.user_nid)).joined
        servers = NOBODY.union(*[await self._servers.now(room) for room in sorted(rooms)[-MAX_ROOMS:]])
        told = frozenset([each for each in servers if self._partners.hears_presence(ServerName(each))])
        for each in told:
            self._partners.done(ServerName(each), "presence_told")
        return News(entry.user_nid, entry, told) if told else None

    def contents(self, values: Sequence[PresenceEntry], now_ms: int) -> Sequence[Any]:
        """See `EphemeralEdus.contents`."""
        told = [_presence(entry, now_ms) for entry in values]
        return [{"push": told[at : at + PRESENCES_AT_ONCE]} for at in range(0, len(told), PRESENCES_AT_ONCE)]


def _presence(entry: PresenceEntry, now_ms: int) -> dict[str, Any]:
    ago = max(0, now_ms - entry.last_active_ms)
    told: dict[str, Any] = {"user_id": entry.user_id, "presence": entry.presence, "last_active_ago": ago}
    if entry.presence == "online":
        told["currently_active"] = ago < ACTIVE_MS
    if entry.status_msg:
        told["status_msg"] = entry.status_msg
    return told
