"""Changes of device lists for readers of the log."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.e2ee import store
from homeserver.e2ee.entries import DeviceListEntry
from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix.ids import UserId
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
        return Slice(_items(rows), rows[-1][0] if len(rows) == limit else upto)

    async def at(self, tx: Tx, positions: Sequence[Position]) -> list[Item[DeviceListEntry]]:
        """Those that stand at some positions, in order."""
        return _items(await store.find_changes_at(tx, positions))


def _items(rows: Sequence[tuple[Position, int, UserId, int | None]]) -> list[Item[DeviceListEntry]]:
    return [
        Item(position, DeviceListEntry(nid, user_id, seen_by)) for position, nid, user_id, seen_by in rows
    ]
