"""Changes of device lists for readers of the log."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.e2ee import store
from homeserver.e2ee.entries import DeviceListEntry
from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix import json
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx


class DeviceListSource:
    """Hands readers `DeviceListEntry`s."""

    entry_type = DeviceListEntry

    def take(self, entry: DeviceListEntry) -> DeviceListEntry:
        """See `Source.take`."""
        return entry

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`. One query."""
        rows = await store.list_changes(tx, after, upto, limit)
        return Slice(_items(rows), rows[-1].position if len(rows) == limit else upto)

    async def at(self, tx: Tx, positions: Sequence[Position]) -> list[Item[DeviceListEntry]]:
        """Those that stand at some positions, in order."""
        return _items(await store.find_changes_at(tx, positions))

    async def for_server(
        self, tx: Tx, destination: str, bounds: tuple[Position, Position], limit: int
    ) -> list[Item[DeviceListEntry]]:
        """The oldest in (after, upto] of people with accounts who share a room with somebody of a server; what is for some eyes
        only is left out.
        """
        return _items(await store.find_changes_for(tx, destination, bounds, limit))


class DeviceVersions:
    """Versions of device lists: the changes of a user's devices that everybody may see, each after the one before."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def newest(self, user_nid: int, upto: Position) -> tuple[Position, int] | None:
        """(position, number of devices) of the last change up to a position."""
        async with self._db.read() as tx:
            row = await store.find_newest(tx, user_nid, upto)
        return None if row is None else (row[0], _count(row[1]))

    async def before(
        self, changes: Sequence[tuple[int, Position]]
    ) -> dict[tuple[int, Position], tuple[Position, int]]:
        """(user_nid, position) -> the same of the last change before that position, where there is one."""
        async with self._db.read() as tx, tx.pipeline() as batch:
            rows = store.find_before(batch, changes)
        return {(user, at): (position, _count(devices)) for user, at, position, devices in rows.result}


def _count(devices: bytes | None) -> int:
    return 1 if devices is None else len(json.loads(devices))


def _items(rows: Sequence[store.Change]) -> list[Item[DeviceListEntry]]:
    return [
        Item(row.position, DeviceListEntry(row.user_nid, row.user_id, row.seen_by, row.device_ids))
        for row in rows
    ]
