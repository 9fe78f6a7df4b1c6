"""Asking what somebody has not read."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from homeserver.log.readers.runner import Runner
from tests.support.server import Server
from tests.support.user import User

RECEIPT = "/rooms/{}/receipt/{}/{}"
THREADS = {"room": {"timeline": {"unread_thread_notifications": True}}}


class Unread(NamedTuple):
    """Notifications and highlights."""

    notifications: int
    highlights: int


def counts_of(section: dict[str, Any]) -> Unread | None:
    counts = section.get("unread_notifications")
    return None if counts is None else Unread(counts["notification_count"], counts["highlight_count"])


async def unread(user: User, room: str) -> Unread | None:
    """What the next sync says of the room; None if it says nothing."""
    reply = await user.sync()
    return counts_of(reply.get("rooms", {}).get("join", {}).get(room, {}))


async def afresh(user: User, room: str) -> Unread | None:
    """What an initial sync says."""
    since = user.since
    reply = await user.sync(since=None)
    user.since = since
    return counts_of(reply["rooms"]["join"][room])


async def per_thread(user: User, room: str, *, since: str | None = None) -> dict[str, Unread]:
    """By thread; `main` is the room's own count."""
    reply = await user.sync(filter=THREADS, since=since)
    section = reply["rooms"]["join"][room]
    found = {"main": counts_of(section) or Unread(-1, -1)}
    for root, counts in section.get("unread_thread_notifications", {}).items():
        found[root] = Unread(counts["notification_count"], counts["highlight_count"])
    return found


async def meeting(server: Server, *names: str) -> tuple[str, list[User]]:
    users = [await server.register(name) for name in names]
    room = await users[0].create_room(preset="public_chat")
    for user in users[1:]:
        await user.join(room)
    for user in users:
        await user.sync()
    await looked_at(server)
    return room, users


async def looked_at(server: Server) -> None:
    """Until the readers that run here have looked at all that was written, and nothing is left to do but what has failed."""
    if server.app is None:
        return
    upto, runners = server.app.core.tail.position, server.app.features.readers.runners

    def busy(runner: Runner) -> bool:
        return runner.scanned < upto or any(
            (each.busy or each.has_work) and not each.failures for each in runner.cursors.values()
        )

    async with asyncio.timeout(60):
        while any(busy(runner) for runner in runners.values()):  # noqa: ASYNC110  # they do not say when
            await asyncio.sleep(0.01)


def mentioning(*users: User, room: bool = False) -> dict[str, Any]:
    mentions: dict[str, Any] = {"user_ids": [user.user_id for user in users]}
    return {"m.mentions": mentions | ({"room": True} if room else {})}


def in_thread(root: str) -> dict[str, Any]:
    return {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
