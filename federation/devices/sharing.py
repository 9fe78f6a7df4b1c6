"""A reader of the log that sees where sharing rooms with other servers' users ends and begins: their servers tell us of changes
only between, so what is kept of their devices is doubtful after either; and servers that are new to a user of ours are told of
the user's devices.

spec: server-server-api/#device-management (FED-30, FED-31)
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from federation.devices.introductions import MAX_SERVERS, IntroductionEntry
from federation.outbound.room_servers import RoomServers
from homeserver.e2ee.remote_lists import RemoteLists
from homeserver.graph.entry import EventEntry
from homeserver.graph.event_cache import EventCache
from homeserver.graph.event_source import EventSource
from homeserver.graph.interning import Interning
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.refs import OUTLIER, REJECTED, SOFT_FAILED
from homeserver.graph.rooms.cache import Rooms
from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Reader, Slice
from homeserver.log.writer import LogWriter
from homeserver.matrix import json
from homeserver.matrix.ids import ServerName, UserId, domain_of
from homeserver.rooms.memberships import Memberships
from homeserver.runtime.turns import pieces
from homeserver.storage.tx import Tx

MEMBER: Final = "m.room.member"
MAX_ENTRIES: Final = 500
"""Written at once."""
FEW_HERE: Final = 1
"""With so many of ours in a room, the one who has moved was the last, or is the first."""


class Move(NamedTuple):
    """Somebody has come into a room, or is in it no more."""

    room_nid: int
    user_ids: Sequence[str]


class MoveSource:
    """Hands a reader `Move`s. What resolution alone has changed while nobody read is not among those of the table."""

    entry_type = EventEntry

    def __init__(self, events: EventCache) -> None:
        self._events = EventSource(events)

    def take(self, entry: EventEntry) -> Move | None:
        """See `Source.take`."""
        users = [change.key[1] for change in entry.by_resolution if change.user_nid is not None]
        own = _mover(entry.persisted)
        if own is not None:
            users.append(own)
        return Move(entry.persisted.room_nid, users) if users else None

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`."""
        found = await self._events.read(tx, after, upto, limit)
        items = [
            Item(item.position, Move(item.value.room_nid, [user]))
            for item in found.items
            if (user := _mover(item.value)) is not None
        ]
        return Slice(items, found.upto)


def _mover(persisted: PersistedEvent) -> str | None:
    """Who has begun or ceased to be joined with an event."""
    event = persisted.event
    if event.type != MEMBER or persisted.flags & (REJECTED | SOFT_FAILED | OUTLIER):
        return None
    replaced = persisted.replaced
    was = replaced is not None and json.loads(replaced.content).get("membership") == "join"
    return event.state_key if was != (event.membership == "join") else None


class Sharing:
    """What the reader does. Keeps nothing."""

    def __init__(  # noqa: PLR0917  # what it is made of; built in one place
        self,
        lists: RemoteLists,
        rooms: Rooms,
        interning: Interning,
        events: EventCache,
        memberships: Memberships,
        servers: RoomServers,
        log: LogWriter,
        server_name: ServerName,
    ) -> None:
        self._memberships = memberships
        self._servers = servers
        self._log = log
        self._lists = lists
        self._rooms = rooms
        self._interning = interning
        self._events = events
        self._server_name = server_name

    def reader(self) -> Reader:
        """The declaration."""
        return Reader(
            name="federation_devices",
            sources=[MoveSource(self._events)],
            deliver=self.deliver,
            batch=500,
            repeatable=True,
        )

    async def deliver(self, key: str, items: Sequence[Item[Any]]) -> None:
        """See `Reader.deliver`."""
        del key
        theirs: set[UserId] = set()
        of_ours: set[int] = set()
        ours: set[tuple[UserId, int]] = set()
        for _, move in items:
            for user in move.user_ids:
                if domain_of(user) == self._server_name:
                    of_ours.add(move.room_nid)
                    ours.add((UserId(user), move.room_nid))
                else:
                    theirs.add(UserId(user))
        rooms = await self._rooms.get_many(of_ours) if of_ours else {}
        few = [nid for nid, room in rooms.items() if len(room.local_joined) <= FEW_HERE]
        nids = await self._interning.find_user_nids(theirs)
        if few or nids:
            await self._lists.distrust_rooms(few, list(nids.values()))
        await self._introduce(ours)

    async def _introduce(self, moved: Collection[tuple[UserId, int]]) -> None:
        """Users of ours who have come into rooms: servers there that are in no other room with them hear of their devices."""
        shared = {
            room: servers
            for room in {room for _, room in moved}
            if (servers := await self._servers.now(room))
        }
        moved = [move for move in moved if move[1] in shared]  # most rooms are ours alone
        nids = await self._interning.find_user_nids({user for user, _ in moved})
        await self._memberships.prepare(nids.values())
        entries: list[IntroductionEntry] = []
        for user, room in sorted(moved):
            joined = (await self._memberships.of(nids[user])).joined
            if room not in joined:
                continue
            new = set(shared[room])
            for other in joined:
                if not new:
                    break
                if other != room:
                    new -= await self._servers.now(other)
            entries += [
                IntroductionEntry(nids[user], user, tuple(some)) for some in pieces(sorted(new), MAX_SERVERS)
            ]
        for some in pieces(entries, MAX_ENTRIES):
            await self._log.append(*some)
