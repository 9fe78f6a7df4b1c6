"""When files were last looked at: noted in memory, written together, since a download shall not cost a write."""

from __future__ import annotations

import asyncio
from typing import Final

from homeserver.media import store
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database

FLUSH_SECONDS: Final = 60.0
_LEAST_MS: Final = 3_600_000
"""Between two writes for the same file."""
_MOST: Final = 50_000
"""Files that are remembered between two flushes; what is beyond is not noted."""


class LastUsed:
    """Files that were looked at in this process since the last flush."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._nids: set[int] = set()
        self._flushing = asyncio.Lock()

    def note(self, media_nid: int) -> None:
        """A file is looked at."""
        if len(self._nids) < _MOST:
            self._nids.add(media_nid)

    async def flush(self) -> None:
        """Write down what was noted, and wait for who does so already. Raises what the database says; then it is noted still."""
        async with self._flushing:
            nids, self._nids = self._nids, set()
            if not nids:
                return
            try:
                async with self._db.transaction() as tx:
                    await store.note_used(tx, nids, self._clock.now_ms(), _LEAST_MS)
            except BaseException:
                self._nids |= nids
                raise
