"""What the configuration says of sizes and waits holds for every client."""

from __future__ import annotations

import asyncio

from tests.conftest import StartServer
from tests.support.waiting import until


async def test_timelines_and_pages_end_at_the_configured_size(start_server: StartServer) -> None:
    server = await start_server(limits={"sync_timeline": 3, "page": 4})
    alice = await server.register("alice")
    room = await alice.create_room()
    parameters = {"room": {"timeline": {"limit": 50}}}
    timeline = (await alice.sync(filter=parameters))["rooms"]["join"][room]["timeline"]
    assert len(timeline["events"]) == 3
    assert timeline["limited"]
    assert len((await alice.messages(room, limit=50))["chunk"]) == 4


async def test_no_wait_is_longer_than_configured(start_server: StartServer) -> None:
    """SYNC-02."""
    server = await start_server(limits={"sync_timeout": 0.2})
    alice = await server.register("alice")
    await alice.sync()
    await asyncio.wait_for(alice.sync(timeout=3_600_000), 60)


async def test_who_comes_when_too_many_wait_is_answered_at_once(start_server: StartServer) -> None:
    server = await start_server(limits={"waiting_syncs": 10})
    assert server.app is not None
    alice, bob = await server.register("alice"), await server.register("bob")
    since = (await alice.sync())["next_batch"]
    await bob.sync()
    notifier = server.app.features.sync.notifier
    polls = [asyncio.create_task(alice.sync(since=since, timeout=60_000)) for _ in range(10)]

    async def all_wait() -> bool:
        return notifier.waiting == 10

    await until(all_wait)
    await asyncio.wait_for(bob.sync(timeout=3_600_000), 60)
    await alice.create_room()
    await asyncio.gather(*polls)
    assert notifier.waiting == 0
