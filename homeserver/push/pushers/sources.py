"""What the reader of the log is handed of receipts: that somebody has read, so that another badge may be due."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.log.entries import Position
from homeserver.log.readers.types import Item, Slice
from homeserver.push.pushers import store
from homeserver.receipts.types import ReceiptEntry
from homeserver.storage.tx import Tx


class HasRead(NamedTuple):
    """A user has read something."""

    user_nid: int


class ReadSource:
    """Receipts; read again, those of users who have pushers."""

    entry_type = ReceiptEntry

    def take(self, entry: ReceiptEntry) -> HasRead:
        """See `Source.take`."""
        return HasRead(entry.user_nid)

    async def read(self, tx: Tx, after: Position, upto: Position, limit: int) -> Slice:
        """See `Source.read`. One query, over the rooms of those who have pushers."""
        rows = await store.list_receipts(tx, after, upto, limit)
        items = [Item(row.position, HasRead(row.user_nid)) for row in rows]
        return Slice(items, rows[-1].position if len(rows) == limit else upto)
