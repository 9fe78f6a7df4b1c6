"""What redactions take away is kept apart for a while, out of everybody's reach, and then destroyed.

It is written in the transaction of the redaction, by the sink. See docs/decisions/0005-redaction-in-place.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from typing import Protocol

from homeserver.graph.write import originals_store as store
from homeserver.log.tail import Tail
from homeserver.matrix.ids import UserId
from homeserver.runtime.periodic import Periodic, every
from homeserver.storage.database import Database
from homeserver.storage.tx import Tx

AT_ONCE = 500
"""Originals destroyed in one transaction; each has at most 64 KiB."""
LONGEST_PAUSE = 600.0
"""Seconds between two rounds: by so much longer than configured may an original be kept."""


class Erasures(Protocol):
    """Which users have asked to be erased."""

    async def users(self) -> AbstractSet[int]:
        """user_nids."""
        ...


class RedactedOriginals:
    """Destroys originals; `keep` is for how many seconds they stay, 0: none is kept from now on."""

    def __init__(self, db: Database, tail: Tail, keep: float) -> None:
        self._db = db
        self._tail = tail
        self._keep = keep
        self._erasures: Erasures | None = None

    def erase_with(self, erasures: Erasures) -> None:
        """Plug in who knows whose account ended with the wish to be erased."""
        self._erasures = erasures

    def periodic(self) -> Periodic:
        """The work that destroys them."""
        pause = min(LONGEST_PAUSE, max(1.0, self._keep / 10)) if self._keep else LONGEST_PAUSE
        return every(
            pause,
            self.destroy_due,
            name="graph.redacted_originals",
            once_in_cluster=True,
            first=min(pause, 60.0),
        )

    async def destroy_due(self) -> int:
        """Destroy what is older than configured, by the database's clock. Returns how many."""
        return await self._all(lambda tx: store.destroy_older(tx, self._keep, AT_ONCE))

    async def forget_user(self, user_nid: int, user_id: UserId) -> None:
        """Of who asked to be erased nothing is kept; of others it is, until its time is over. See `ForgetUser`."""
        del user_id
        await self._tail.fresh()
        if self._erasures is not None and user_nid in await self._erasures.users():
            await self._all(lambda tx: store.destroy_of(tx, user_nid, AT_ONCE))

    async def _all(self, destroy: Callable[[Tx], Awaitable[int]]) -> int:
        total = 0
        while True:
            async with self._db.transaction() as tx:
                gone = await destroy(tx)
            total += gone
            if gone < AT_ONCE:
                return total
