"""Aliases of other servers, asked of them.

spec: server-server-api/#querying-for-information
"""

from __future__ import annotations

from typing import Final

import msgspec

from federation.ports import Ask, Client, RemoteFault
from federation.queries.faults import as_error
from federation.queries.once import AskedOnce, Kept
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import RoomAlias, RoomId, ServerName, domain_of, is_room_id, is_server_name
from homeserver.rooms.ports import LocatedRoom
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock

KEPT: Final = Kept(found=30.0, failed=10.0, at_once=50)
SHARE: Final = 0.1
MAX_BYTES: Final = 256 * 1024
MAX_SERVERS: Final = 20
SECONDS: Final = 10.0


class _Told(msgspec.Struct):
    room_id: str
    servers: list[str] = []


class RemoteAliases:
    """Fulfils `rooms.ports.RemoteAliases`. Owns a small cache of what was answered."""

    def __init__(self, client: Client, memory: MemoryBudget, clock: Clock) -> None:
        self._client = client
        self._asked: AskedOnce[RoomAlias, LocatedRoom] = AskedOnce(
            memory, "remote_aliases", SHARE, clock, KEPT
        )

    async def locate(self, alias: RoomAlias) -> LocatedRoom:
        """See the protocol; raises `Forbidden` where we do not speak with the server."""
        return await self._asked.get(alias, lambda: self._ask(alias), lambda _: 2_000)

    async def stop(self) -> None:
        """End what is under way."""
        await self._asked.stop()

    async def _ask(self, alias: RoomAlias) -> LocatedRoom:
        server_name = domain_of(alias)
        ask = Ask(
            method="GET",
            path=("_matrix", "federation", "v1", "query", "directory"),
            query=(("room_alias", alias),),
            timeout=SECONDS,
            max_bytes=MAX_BYTES,
            long_retry=False,
        )
        try:
            told = await self._client.ask(server_name, ask, _Told)
        except RemoteFault as fault:
            raise as_error(fault) from None
        if not is_room_id(told.room_id):
            raise Unavailable(f"{server_name} names no room", status=502)
        named = [ServerName(each) for each in told.servers[: 10 * MAX_SERVERS] if is_server_name(each)]
        servers = list(dict.fromkeys([*named[: MAX_SERVERS - 1], server_name]))
        return LocatedRoom(RoomId(told.room_id), servers)
