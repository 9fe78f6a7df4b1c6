"""Joins that another server has been asked for and that are not stored here yet. It may have let us in already, and then sends what
happens in the room: what comes meanwhile waits, since nobody sends it again.

spec: server-server-api/#joining-rooms, op:sendTransaction
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

from homeserver.matrix.ids import RoomId
from homeserver.runtime.fair_queue import paused

SECONDS: Final = 30.0
"""What comes for a room waits for no join any longer: who sends it gives up after a minute."""
MAX_WAITING: Final = 50
"""Transactions that wait at the same time, in a process; what comes beyond does not."""


class JoinsUnderWay:
    """Owns the joins of this process that are between the request and the stored room."""

    def __init__(self) -> None:
        self._ends: dict[RoomId, asyncio.Event] = {}
        self._waiting = 0

    @contextmanager
    def of(self, room_id: RoomId) -> Iterator[None]:
        """One is under way in the block. Of a room there is one at a time."""
        end = self._ends[room_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._ends[room_id]
            end.set()

    async def ended(self, room_ids: Collection[RoomId]) -> bool:
        """False at once if none of these rooms is being joined. True when those that are have been, could not be, or take long."""
        ends = [self._ends[each] for each in room_ids if each in self._ends]
        if not ends or self._waiting >= MAX_WAITING:
            return False
        self._waiting += 1
        try:
            async with paused(), asyncio.timeout(SECONDS):
                for end in ends:
                    await end.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1
        return True
