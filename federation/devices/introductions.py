"""Our users' devices, told to servers with which they begin to share a room: as changes that follow nothing, so that whoever keeps
a list of them asks for it anew.

spec: server-server-api/#device-management: "when that user joins a room which contains servers which are not already receiving
updates for that user's device list" (FED-30)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from federation.devices import store
from federation.devices.device_edus import list_edu, signing_edus
from federation.devices.own import described
from federation.devices.store import IntroductionRow
from federation.devices.stream_ids import last_stream_id
from federation.outbound.room_servers import Servers
from homeserver.e2ee.query import KeyQueries
from homeserver.e2ee.source import DeviceVersions
from homeserver.log.entries import Entry, Position, StructSink, Written
from homeserver.log.readers.floor import passed_by_all
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix.ids import ServerName
from homeserver.storage.database import Database
from homeserver.storage.tx import Pipeline, Tx

MAX_SERVERS: Final = 100
"""Of one entry: more are told in several."""
MAX_DEVICES: Final = 20
"""That are told; whoever keeps lists asks for all."""
FORGET_EVERY: Final = 3_600.0
FORGOTTEN_AT_ONCE: Final = 10_000


class IntroductionEntry(Entry, frozen=True):
    """A user of ours has begun to share a room with these servers."""

    user_nid: int
    user_id: str
    servers: tuple[str, ...]


class IntroductionSink(StructSink[IntroductionEntry]):
    """Into `federation_device_introductions`."""

    kind = "device_introduction"
    entry_type = IntroductionEntry

    @override
    def write(self, batch: Pipeline, written: Sequence[Written[IntroductionEntry]]) -> None:
        store.insert_introductions(
            batch, [IntroductionRow(at, e.user_nid, e.user_id, e.servers) for at, e in written]
        )


class IntroductionEdus:
    """See `DurableEdus`."""

    entry_type = IntroductionEntry

    def __init__(self, db: Database, queries: KeyQueries, versions: DeviceVersions, *, named: bool) -> None:
        """`named`: whether others are told what people call their devices."""
        self._named = named
        self._db = db
        self._queries = queries
        self._versions = versions

    def take(self, entry: IntroductionEntry) -> IntroductionEntry:
        """See `Source.take`."""
        return entry

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`."""
        return await self._list(tx, None, (after, upto), limit)

    async def concerned(self, items: Sequence[Item[IntroductionEntry]]) -> Sequence[Servers]:
        """See `DurableEdus.concerned`."""
        return [frozenset(entry.servers) for _, entry in items]

    async def edus(
        self, destination: ServerName, items: Sequence[Item[IntroductionEntry]]
    ) -> Sequence[Sequence[bytes]]:
        """See `DurableEdus.edus`."""
        del destination
        keys = await self._queries.of({entry.user_id for _, entry in items})
        found: list[list[bytes]] = []
        for position, entry in items:
            stream_id = last_stream_id(await self._versions.newest(entry.user_nid, position)) or 0
            theirs = keys[entry.user_id]
            devices = list(theirs.by_device().items())[:MAX_DEVICES]
            told = [
                list_edu(entry.user_id, described(device_id, raw, named=self._named), stream_id, None)
                for device_id, raw in devices
            ]
            found.append([*told, *signing_edus(entry.user_id, theirs)])
        return found

    async def resume(
        self, tx: Tx, destination: ServerName, bounds: tuple[Position, Position], limit: int
    ) -> Slice:
        """See `DurableEdus.resume`."""
        return await self._list(tx, destination, bounds, limit)

    async def delivered(self, destination: ServerName, items: Sequence[Item[IntroductionEntry]]) -> None:
        """They are forgotten when all servers have been told: `forget`."""

    async def forget(self) -> None:
        """Once: those that nobody needs any more."""
        while True:
            async with self._db.transaction() as tx:
                floor = await passed_by_all(tx)
                if floor is None:
                    return
                gone = await store.delete_introductions(tx, floor, FORGOTTEN_AT_ONCE)
            if gone < FORGOTTEN_AT_ONCE:
                return

    async def _list(
        self, tx: Tx, destination: str | None, bounds: tuple[Position, Position], limit: int
    ) -> Slice:
        rows = await store.list_introductions(tx, destination, bounds, limit)
        items = [
            Item(row.position, IntroductionEntry(row.user_nid, row.user_id, tuple(row.servers)))
            for row in rows
        ]
        return Slice(items, rows[-1].position if len(rows) == limit else bounds[1])
