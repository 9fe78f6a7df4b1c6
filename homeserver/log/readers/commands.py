"""What an administrator sees of the readers and can do to them: `atrium readers`. Works beside a running server."""

from __future__ import annotations

from homeserver.log import store as log_store
from homeserver.log.readers import store
from homeserver.log.readers.store import CursorRow, Status
from homeserver.storage.database import Database


async def overview(db: Database) -> list[tuple[Status, int]]:
    """All readers that ever ran here, by name, each with how many entries of the log it has not looked at yet."""
    async with db.read() as tx:
        head = await log_store.read_head(tx)
        return [(each, head - each.position) for each in await store.list_readers(tx)]


async def failing(db: Database, name: str, most: int) -> list[CursorRow]:
    """At most so many of a reader's cursors whose last delivery failed, those that fail longest first."""
    async with db.read() as tx:
        return await store.find_failing(tx, name, most)


async def retry(db: Database, name: str, key: str | None) -> int:
    """Have failing cursors tried again at once: that of a key, or all. Returns how many."""
    async with db.transaction() as tx:
        return await store.retry_now(tx, name, key)


async def forget(db: Database, name: str) -> bool:
    """Forget a reader that is no longer declared anywhere, with its cursors. False: there was none."""
    async with db.transaction() as tx:
        return await store.forget(tx, name)
