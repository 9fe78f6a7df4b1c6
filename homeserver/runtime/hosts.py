"""How many hosts serve from this database: each process says every few seconds that it does.

Rate limits are counted by each host alone, and hosts share what they allow by this number; so no request asks the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from homeserver.runtime import hosts_store as store
from homeserver.runtime.clock import Entropy
from homeserver.storage.database import Database

EVERY: Final = 10.0
"""Seconds between two words of a process."""
GONE: Final = 35.0
"""Seconds of silence after which it counts no more."""


class Hosts:
    """This process among all that serve. A process counts as its part of a host."""

    def __init__(self, db: Database, entropy: Entropy, processes: int, tell: Callable[[float], None]) -> None:
        """`processes` of this host; `tell` is called with the number of hosts, 1.0 or more."""
        self._db = db
        self._name = entropy.token(12)
        self._part = 1 / processes
        self._tell = tell

    async def count(self) -> None:
        """Say that this process serves, and see who else does. Raises what the database says: then the last count holds."""
        async with self._db.transaction() as tx:
            others = await store.count_others(tx, self._name, GONE)
            await store.put(tx, self._name, self._part)
        # Processes of this host that have not said so yet are there all the same.
        self._tell(max(1.0, round(others + self._part, 3)))

    async def leave(self) -> None:
        """The process stops: the others need not wait until they know."""
        async with self._db.transaction() as tx:
            await store.delete(tx, self._name, 3600.0)
