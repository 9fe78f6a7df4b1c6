"""What an administrator can do to pauses, beside a running server."""

from __future__ import annotations

from federation.transport import store
from homeserver.matrix.ids import ServerName
from homeserver.runtime.clock import Clock
from homeserver.storage.database import Database


async def end_pause(db: Database, server_name: ServerName, clock: Clock) -> None:
    """Let all processes ask a server again; they hear of it within seconds."""
    now = clock.now_ms()
    async with db.transaction() as tx:
        await store.upsert_pauses(tx, [store.PauseRow(server_name, 0, now, now, now, "", now)])
