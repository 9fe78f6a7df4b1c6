"""Lists of published rooms of other servers, asked of them.

spec: server-server-api/#public-room-directory (CHECKLIST DIR-03)
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from federation.ports import Ask, Client, RemoteFault
from federation.queries.faults import as_error
from federation.queries.once import AskedOnce, Kept
from federation.queries.rooms_told import published_room
from homeserver.directory.listing import MAX_LIMIT, ListBody, RoomList
from homeserver.matrix.ids import ServerName
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock

KEPT: Final = Kept(found=10.0, failed=5.0, at_once=20)
SHARE: Final = 0.1
MAX_BYTES: Final = 4 << 20
MAX_TOKEN: Final = 4_096
SECONDS: Final = 20.0


class _Told(msgspec.Struct):
    chunk: list[Any] = []
    next_batch: Any = None
    prev_batch: Any = None
    total_room_count_estimate: Any = None


class RemoteDirectories:
    """Fulfils `directory.ports.RemoteDirectories`. Owns a small cache of what was answered."""

    def __init__(self, client: Client, memory: MemoryBudget, clock: Clock) -> None:
        self._client = client
        self._asked: AskedOnce[tuple[ServerName, bytes], RoomList] = AskedOnce(
            memory, "remote_directories", SHARE, clock, KEPT
        )

    async def list_rooms(self, server_name: ServerName, body: ListBody) -> RoomList:
        """See the protocol."""
        wanted = msgspec.structs.replace(body, limit=body.most)
        key = server_name, msgspec.json.encode(wanted)
        return await self._asked.get(key, lambda: self._ask(server_name, wanted), _size)

    async def stop(self) -> None:
        """End what is under way."""
        await self._asked.stop()

    async def _ask(self, server_name: ServerName, body: ListBody) -> RoomList:
        ask = Ask(
            method="POST",
            path=("_matrix", "federation", "v1", "publicRooms"),
            content=msgspec.to_builtins(body),
            timeout=SECONDS,
            max_bytes=MAX_BYTES,
            long_retry=False,
        )
        try:
            told = await self._client.ask(server_name, ask, _Told)
        except RemoteFault as fault:
            raise as_error(fault) from None
        rooms = (published_room(each) for each in told.chunk[:MAX_LIMIT])
        total = told.total_room_count_estimate
        return RoomList(
            chunk=[room for room in rooms if room is not None],
            next_batch=_token(told.next_batch),
            prev_batch=_token(told.prev_batch),
            total_room_count_estimate=total if type(total) is int and 0 <= total < 2**53 else None,
        )


def _token(told: Any) -> str | None:
    return told if isinstance(told, str) and 0 < len(told) <= MAX_TOKEN else None


def _size(rooms: RoomList) -> int:
    return 1_000 + 3 * len(msgspec.json.encode(rooms))
