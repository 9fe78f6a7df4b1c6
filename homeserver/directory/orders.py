"""In which order the pages of a list of rooms are given out.

The list is ordered by the number of members, which changes while somebody turns the pages: rooms would be skipped or come
twice. So the order of the first page is kept, named by a digest of itself, and later pages are cut from it, at whatever
process; what has not changed is kept once.

spec: op:getPublicRooms, op:queryPublicRooms (DIR-03)
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from homeserver.directory import store
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

KEPT_MS: Final = 3600 * 1000
"""After this time without a first page that has it, an order may go; a token of it counts places in the present one."""
NOTED_EVERY_MS: Final = 600 * 1000
MAX_KEPT: Final = 100
"""In the database: at most 16 MB."""
MAX_REMEMBERED: Final = 20
"""In memory."""


class RoomListOrders:
    """The stored orders by which pages of the room directory are cut; a bounded cache of those that were used lately."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._orders: OrderedDict[str, tuple[Sequence[int], int]] = OrderedDict()
        """Name -> the order, and when the database was told that it is in use (Unix ms)."""

    async def keep(self, room_nids: Sequence[int]) -> str:
        """Keep an order of rooms. Returns its name: 32 hexadecimal digits."""
        digest = blake2b(array("q", room_nids).tobytes(), digest_size=16).digest()
        name, now = digest.hex(), self._clock.now_ms()
        known = self._orders.get(name)
        if known is None or now - known[1] >= NOTED_EVERY_MS:
            async with self._db.transaction() as tx:
                await store.keep_order(tx, digest, room_nids, now)
                await store.drop_orders(tx, MAX_KEPT, now - KEPT_MS)
            self._remember(name, room_nids, now)
        return name

    async def find(self, name: str) -> Sequence[int] | None:
        """The order of that name, if it is still there."""
        known = self._orders.get(name)
        if known is not None:
            return known[0]
        async with self._db.read() as tx:
            room_nids = await store.find_order(tx, bytes.fromhex(name))
        if room_nids is not None:
            self._remember(name, room_nids, 0)
        return room_nids

    def _remember(self, name: str, room_nids: Sequence[int], noted_ms: int) -> None:
        self._orders[name] = (array("q", room_nids), noted_ms)
        if len(self._orders) > MAX_REMEMBERED:
            self._orders.popitem(last=False)
