"""Rooms under rooms that are not here, asked of servers that may know them.

spec: server-server-api/#spaces (CHECKLIST SPACE-04)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from federation.ports import Ask, Client, RemoteFault
from federation.queries.once import AskedOnce, Kept
from federation.queries.rooms_told import space_room
from homeserver.directory.types import RoomSummary
from homeserver.graph.entry import EventEntry, touches_state
from homeserver.graph.refs import JOIN
from homeserver.log.entries import Entry, Position
from homeserver.log.tail import Handler, Narrowed
from homeserver.matrix.errors import MatrixError, NotFound
from homeserver.matrix.ids import RoomId, ServerName, domain_of, is_room_id, is_server_name
from homeserver.runtime.cache import MemoryBudget
from homeserver.runtime.clock import Clock
from homeserver.spaces.types import Branch

KEPT: Final = Kept(found=300.0, failed=60.0, at_once=100)
SHARE: Final = 0.5
MAX_BYTES: Final = 4 << 20
MAX_ASKED: Final = 3
"""Servers that are asked for one room, one after the other."""
MAX_CHILDREN: Final = 500
SECONDS: Final = 5.0


class _Told(msgspec.Struct):
    room: Any
    children: list[Any] = []
    inaccessible_children: list[Any] = []


class RemoteSpaces:
    """Fulfils `spaces.ports.RemoteSpaces` and `directory.ports.RemoteSummaries`. Owns a bounded cache of what was answered.

    That no server shows a room is believed for a minute, and no longer when somebody has joined a room: by that a restricted
    room may have opened to us, or its server may have learned who is in the rooms it goes by.
    """

    def __init__(self, client: Client, memory: MemoryBudget, clock: Clock, server_name: ServerName) -> None:
        self._client = client
        self._server_name = server_name
        self._asked: AskedOnce[tuple[RoomId, bool], Branch] = AskedOnce(
            memory, "remote_spaces", SHARE, clock, KEPT
        )
        self._clock = clock
        self._joined = clock.monotonic()
        """When somebody joined a room."""

    def handlers(self) -> dict[type[Entry], Handler | Narrowed]:
        """See `Projection`."""
        return {EventEntry: Narrowed(self._applied, touches_state)}

    def reset(self) -> None:
        """See `Projection`."""
        self._joined = self._clock.monotonic()

    def _applied(self, _: Position, entry: EventEntry) -> None:
        if any(change.membership == JOIN for change in entry.changes):
            self._joined = self._clock.monotonic()

    async def fetch(
        self, room_id: RoomId, via: Sequence[ServerName], *, suggested_only: bool
    ) -> Branch | None:
        """See the protocol."""
        servers = [*via, domain_of(room_id)]
        asked = [
            each for each in dict.fromkeys(servers) if is_server_name(each) and each != self._server_name
        ]
        if not asked:
            return None
        try:
            return await self._asked.get(
                (room_id, suggested_only),
                lambda: self._ask(room_id, asked[:MAX_ASKED], suggested_only=suggested_only),
                _size,
                changed=self._joined,
            )
        except MatrixError:
            return None

    async def summary(self, room_id: RoomId, via: Sequence[ServerName]) -> RoomSummary | None:
        """See the protocol."""
        branch = await self.fetch(room_id, via, suggested_only=False)
        if branch is None:
            return None
        names = RoomSummary.__struct_fields__
        return RoomSummary(**{name: getattr(branch.room, name) for name in names})

    async def stop(self) -> None:
        """End what is under way."""
        await self._asked.stop()

    async def _ask(self, room_id: RoomId, servers: Sequence[ServerName], *, suggested_only: bool) -> Branch:
        for server_name in servers:
            ask = Ask(
                method="GET",
                path=("_matrix", "federation", "v1", "hierarchy", room_id),
                query=(("suggested_only", "true" if suggested_only else "false"),),
                timeout=SECONDS,
                max_bytes=MAX_BYTES,
                long_retry=False,
            )
            try:
                branch = _read(await self._client.ask(server_name, ask, _Told), room_id)
            except RemoteFault:
                continue
            if branch is not None:
                return branch
        raise NotFound("No server that was asked knows this room")


def _read(told: _Told, room_id: RoomId) -> Branch | None:
    """None for what tells of another room."""
    room = space_room(told.room)
    if room is None or room.room_id != room_id:
        return None
    children = (space_room(each) for each in told.children[:MAX_CHILDREN])
    return Branch(
        room,
        [child for child in children if child is not None],
        list(_room_ids(told.inaccessible_children[:MAX_CHILDREN])),
    )


def _room_ids(told: Sequence[Any]) -> Iterator[RoomId]:
    for each in told:
        if isinstance(each, str) and is_room_id(each):
            yield RoomId(each)


def _size(branch: Branch) -> int:
    return 1_000 + 3 * len(msgspec.json.encode(branch))
