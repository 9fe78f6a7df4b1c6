"""To-device messages for readers of the log: those for accounts of application services, whose devices need not sync."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice
from homeserver.matrix.ids import UserId
from homeserver.storage.tx import Tx
from homeserver.to_device import store
from homeserver.to_device.entries import ToDeviceEntry


class ToDeviceSource:
    """Hands readers `ToDeviceEntry`s; from the table those for accounts that application services have made, or `others`."""

    entry_type = ToDeviceEntry

    def __init__(self, others: Callable[[], Collection[UserId]]) -> None:
        self._others = others

    def take(self, entry: ToDeviceEntry) -> ToDeviceEntry:
        """See `Source.take`."""
        return entry

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`. One query."""
        rows = await store.find_of_appservices(tx, sorted(self._others()), after, upto, limit)
        items = _items(rows)
        return Slice(items, items[-1].position if len(rows) == limit else upto)

    async def at(self, tx: Tx, positions: Sequence[Position]) -> list[Item[ToDeviceEntry]]:
        """Those that stand at some positions and still wait, in order."""
        rows = await store.find_of_appservices(
            tx, sorted(self._others()), min(positions) - 1, max(positions), len(positions) * 100
        )
        return [item for item in _items(rows) if item.position in positions]


def _items(rows: Sequence[tuple[Position, int, str, bytes]]) -> list[Item[ToDeviceEntry]]:
    return [Item(position, ToDeviceEntry(nid, device, message)) for position, nid, device, message in rows]
