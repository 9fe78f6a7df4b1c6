"""Keys of other servers that nobody needs any more: of servers of which there is no event and no user here.

Whoever asks us as a notary, and whoever says to be a server, has us learn keys of any name. What signs events that are here stays
for good: old events are checked with old keys.

spec: server-server-api/#publishing-keys
"""

from __future__ import annotations

from typing import Final

import structlog

from federation.keys import store
from homeserver.runtime.clock import Clock
from homeserver.runtime.periodic import Periodic, every
from homeserver.storage.database import Database

_log = structlog.get_logger(__name__)

EVERY: Final = 6 * 3_600.0
KEPT_MS: Final = 14 * 86_400_000
"""So long the keys of a server are kept that nobody here has to do with; they have been told anew meanwhile if it is asked."""
MAX_KEYS: Final = 200_000
"""In all. Beyond it those are kept for an hour alone."""
CROWDED_KEPT_MS: Final = 3_600_000
AT_ONCE: Final = 500


class KeyPruning:
    """Looks at all servers, some at a time. Keeps nothing in memory."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def periodic(self) -> Periodic:
        """See `Periodic`."""
        return every(EVERY, self.prune, name="federation.keys", once_in_cluster=True)

    async def prune(self) -> int:
        """Once; how many keys are gone."""
        async with self._db.read() as tx:
            crowded = await store.count_keys(tx, MAX_KEYS + 1) > MAX_KEYS
        before = self._clock.now_ms() - (CROWDED_KEPT_MS if crowded else KEPT_MS)
        gone, after = 0, ""
        while True:
            async with self._db.transaction() as tx:
                names = await store.list_servers(tx, after, AT_ONCE)
                gone += await store.delete_unused(tx, names, before) if names else 0
            if len(names) < AT_ONCE:
                break
            after = names[-1]
        if gone:
            _log.info("federation.keys_forgotten", keys=gone, crowded=crowded)
        return gone
