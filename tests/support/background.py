"""Waiting for what a server does after its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from tests.support.server import Server
from tests.support.user import User


async def log_is_read(server: Server) -> bool:
    """Whether all that reads the log has come to its end."""
    assert server.app is not None
    async with server.app.core.db.read() as tx:
        left = await tx.all(
            """
            SELECT FROM log_readers r, log_head h WHERE r.position < h.position
            UNION ALL SELECT FROM log_cursors c, log_head h WHERE c.position < h.position
            """
        )
    return not left


async def shown(user: User, room: str, event: str) -> dict[str, Any]:
    """An event as the user sees it."""
    return dict(await user.get("/rooms/{}/event/{}", room, event))


async def until_redacted(user: User, room: str, events: Sequence[str]) -> list[dict[str, Any]]:
    """The events, as soon as all of them are redacted."""
    deadline = time.monotonic() + 60
    while True:
        found = [await shown(user, room, event) for event in events]
        if all(event["content"] == {} for event in found):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def jobs_done(server: Server, kind: str) -> None:
    """Until no job of a kind is left."""
    assert server.app is not None
    deadline = time.monotonic() + 60
    while True:
        async with server.app.core.db.read() as tx:
            if not await tx.value("SELECT count(*) FROM jobs WHERE kind = %(kind)s", kind=kind):
                return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
