"""Who ignores, or has ignored, tens of thousands, holds up nobody, and hears whom they want to hear."""

import pytest

from tests.support.server import Server
from tests.support.user import User
from tests.support.watchdog import Watchdog

IGNORED = "/user/{}/account_data/m.ignored_user_list"
MANY = 20_000
AT_MOST = 0.04
"""Seconds of CPU of a turn. A list of half a megabyte is read in one."""
TRIES = 3


async def ignore(user: User, *names: str, others: int) -> None:
    """Ignore these, and so many that nobody knows."""
    users = [*(f"@x{number}:localhost" for number in range(others)), *names]
    await user.put(IGNORED, user.user_id, json={"ignored_users": {name: {} for name in users}})


@pytest.mark.parametrize("path", ["/sync", "/notifications"])
async def test_long_lists_of_before_are_looked_up_in_turns(
    server: Server, watchdog: Watchdog, path: str
) -> None:
    """MOD-03, PUSH-14"""
    reader, bob, eve = [await server.register(name) for name in ("reader", "bob", "eve")]
    room = await reader.create_room(preset="public_chat")
    for user in (bob, eve):
        await user.join(room)
        await ignore(reader, eve.user_id, others=MANY)
        await user.send(room, "unheard" if user is eve else "heard")
        await ignore(reader, others=0)
    seen = []
    for number in range(TRIES):
        await ignore(reader, f"@y{number}:localhost", others=0)  # nothing in memory counts any more
        watchdog.longest = 0.0
        told = await reader.get(path)
        seen.append(watchdog.longest)
    if path == "/sync":
        assert told["rooms"]["join"][room]["unread_notifications"]["notification_count"] == 1
    else:
        assert [each["event"]["sender"] for each in told["notifications"]] == [bob.user_id]
    assert min(seen) < AT_MOST
