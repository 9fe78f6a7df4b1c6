"""The event of a room closest to a moment, asked of other servers in it.

spec: op:getEventByTimestamp (server-server) (CHECKLIST FED-44)
"""

from __future__ import annotations

from typing import Final

import msgspec

from federation.history.backfilling import servers_to_ask
from federation.ports import Ask, Client, Partners, RemoteFault
from homeserver.graph.event_cache import EventCache
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.rooms.cache import Rooms
from homeserver.matrix.ids import EventId, ServerName, is_event_id
from homeserver.rooms.ports import RemoteMoment

MAX_SERVERS: Final = 3
SECONDS: Final = 5.0
MAX_BYTES: Final = 64 * 1024


class _Told(msgspec.Struct):
    event_id: str
    origin_server_ts: int


class RemoteMoments:
    """Fulfils `rooms.ports.RemoteMoments`. Keeps nothing in memory."""

    def __init__(
        self,
        client: Client,
        rooms: Rooms,
        events: EventCache,
        partners: Partners,
        server_name: ServerName,
    ) -> None:
        self._partners = partners
        self._client = client
        self._rooms = rooms
        self._events = events
        self._server_name = server_name

    async def closest(self, room: RoomIdentity, ts: int, *, backwards: bool) -> RemoteMoment | None:
        """See the protocol. The first server that knows one is believed: what it names has to be fetched anyway."""
        known = await self._rooms.get(room.nid)
        named = await servers_to_ask(known, self._events, self._server_name)
        servers = await self._partners.sharing(named, room.room_id)
        for server in servers[:MAX_SERVERS]:
            ask = Ask(
                method="GET",
                path=("_matrix", "federation", "v1", "timestamp_to_event", room.room_id),
                query=(("ts", str(ts)), ("dir", "b" if backwards else "f")),
                timeout=SECONDS,
                max_bytes=MAX_BYTES,
                long_retry=False,
            )
            try:
                told = await self._client.ask(server, ask, _Told)
            except RemoteFault:
                continue
            if is_event_id(told.event_id):
                return RemoteMoment(EventId(told.event_id), told.origin_server_ts)
        return None
