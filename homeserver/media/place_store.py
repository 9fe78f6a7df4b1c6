"""SQL of the mark that hosts leave in a folder they share."""

from __future__ import annotations

from homeserver.storage.tx import Tx


async def note(tx: Tx, token: str) -> str:
    """Note the mark, unless there is one. Returns that which counts."""
    await tx.execute("INSERT INTO media_place (token) VALUES (%(token)s) ON CONFLICT DO NOTHING", token=token)
    return str(await tx.value("SELECT token FROM media_place"))


async def find(tx: Tx) -> str | None:
    """The mark; None: no host has left one."""
    value = await tx.value("SELECT token FROM media_place")
    return None if value is None else str(value)
