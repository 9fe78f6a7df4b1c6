"""What an administrator sees of the index and can do to it: `atrium search`. Works beside a running server, which does the work."""

from __future__ import annotations

from typing import NamedTuple

from homeserver.matrix.cutting import VERSION
from homeserver.search import store
from homeserver.search.store import Rebuild
from homeserver.storage.database import Database


class Overview(NamedTuple):
    """The index as the database knows it."""

    entries: int
    """About."""
    size: int
    """Bytes of the entries and their indexes."""
    rebuild: Rebuild | None
    """The last time that everything was gone through; None: never."""
    current: bool
    """Whether that was by today's rules."""

    @property
    def progress(self) -> float:
        """Of the rebuild: 0 to 1."""
        last = self.rebuild
        if last is None:
            return 0.0
        if last.ended or last.last <= last.first:
            return 1.0
        return (last.done - last.first) / (last.last - last.first)


async def overview(db: Database) -> Overview:
    """How large the index is, and how far the last rebuild has come."""
    async with db.read() as tx:
        entries, size = await store.count_entries(tx)
        rebuild = await store.read_rebuild(tx)
    return Overview(entries, size, rebuild, rebuild is not None and rebuild.version == VERSION)


async def rebuild(db: Database) -> None:
    """Have everything gone through again, from the beginning, by whichever process of the server does it next."""
    async with db.transaction() as tx:
        await store.begin_rebuild(tx, VERSION)
