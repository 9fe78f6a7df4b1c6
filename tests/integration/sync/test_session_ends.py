"""Who waits in `/sync` while their session ends is told at once, not after the wait: CHECKLIST ACC-01, AUTH-28, AUTH-29."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.server import PASSWORD, Server
from tests.support.user import User
from tests.support.waiting import until

Ending = Callable[[Server, User, User], Awaitable[Any]]
LOCKED, UNKNOWN = (401, "M_USER_LOCKED"), (401, "M_UNKNOWN_TOKEN")


async def flag(server: Server, user: User, **flags: bool) -> None:
    assert server.app is not None
    accounts = server.app.features.accounts.accounts
    account = await accounts.find(user.user_id)  # type: ignore[arg-type]  # a user id it is
    assert account is not None
    await accounts.set_flags(account.user_nid, **flags)


async def lock(server: Server, _user: User, other: User) -> None:
    await flag(server, other, locked=True)


async def log_out(_server: Server, user: User, _other: User) -> None:
    await user.post("/logout")


async def log_out_everywhere(_server: Server, _user: User, other: User) -> None:
    await other.post("/logout/all")


async def delete_device(_server: Server, user: User, other: User) -> None:
    question = await other.delete("/devices/{}", user.device_id, json={}, expect=401)
    proof = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": user.user_id},
        "password": PASSWORD,
        "session": question["session"],
    }
    await other.delete("/devices/{}", user.device_id, json={"auth": proof})


async def waiting(server: Server, number: int) -> None:
    assert server.app is not None
    notifier = server.app.features.sync.notifier

    async def so_many() -> bool:
        return notifier.waiting >= number

    await until(so_many)


@pytest.mark.parametrize(
    ("end", "refusal"),
    [(lock, LOCKED), (log_out, UNKNOWN), (log_out_everywhere, UNKNOWN), (delete_device, UNKNOWN)],
)
async def test_a_waiting_sync_ends_with_its_session(
    fresh_server: Server, end: Ending, refusal: tuple[int, str]
) -> None:
    alice = await fresh_server.register("alice")
    other = await alice.login()
    await alice.sync()
    poll = asyncio.create_task(alice.sync(timeout=60_000, expect=refusal))
    await waiting(fresh_server, 1)
    await end(fresh_server, alice, other)
    answer = await asyncio.wait_for(poll, 20)
    assert answer.get("soft_logout", False) is (refusal == LOCKED)


async def test_others_wait_on(fresh_server: Server) -> None:
    """A session more or less of the same user, and what befalls somebody else."""
    alice, bob = await fresh_server.register("alice"), await fresh_server.register("bob")
    other = await alice.login()
    await other.sync()  # that it logged in is told to both
    await alice.sync()
    await bob.sync()
    polls = [asyncio.create_task(user.sync(timeout=5_000)) for user in (other, bob)]
    await waiting(fresh_server, 2)
    await flag(fresh_server, alice, suspended=True)
    await alice.post("/logout")
    for poll in polls:
        await poll


async def test_who_watches_a_room_is_told_too(fresh_server: Server) -> None:
    alice, bob = await fresh_server.register("alice"), await fresh_server.register("bob")
    room = await alice.create_room(
        initial_state=[
            {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
        ]
    )
    query = {"room_id": room, "timeout": 60_000}
    poll = asyncio.create_task(bob.get("/events", params=query, expect=LOCKED))
    await waiting(fresh_server, 1)
    await flag(fresh_server, bob, locked=True)
    await asyncio.wait_for(poll, 20)
