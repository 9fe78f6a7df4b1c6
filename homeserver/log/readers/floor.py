"""How far whoever owns a table that readers read may purge it."""

from __future__ import annotations

from homeserver.log.entries import Position
from homeserver.log.readers import store
from homeserver.storage.tx import Tx


async def passed_by_all(tx: Tx) -> Position | None:
    """Every cursor of every reader has passed this position: purge what lies beyond it never. None: there are no readers."""
    return await store.find_floor(tx)
