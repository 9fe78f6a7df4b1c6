"""Two hosts over one database: a room is worked on by one of them at a time, who hears of the other, and is replaced when dead."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from homeserver.events.event import Event
from homeserver.matrix import json
from tests.integration.federation.test_send import PUBLIC
from tests.support.federation import Federation
from tests.support.process import free_port
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.remote_server import Asked, status
from tests.support.server import Server, changed, running

V1 = "/_matrix/federation/v1"


@asynccontextmanager
async def two_hosts(federation: Federation) -> AsyncIterator[tuple[Server, Server]]:
    """The first has the server's name; the second is not found by it, and is handed transactions."""
    config = changed(federation.config(), database={"shared": True})
    listeners = [each.model_copy(update={"port": free_port()}) for each in config.listeners]
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running(config))
        two = await stack.enter_async_context(running(config.with_listeners(tuple(listeners))))
        yield one, two


async def hand_over(host: Server, room: RemoteRoom, txn_id: str, *events: Event) -> None:
    """As if a load balancer had chosen this host."""
    assert host.app is not None
    pdus = [msgspec.Raw(json.dumps(event.fields)) for event in events]
    transactions = host.app.features.federation_inbound.transactions
    answer = await transactions.receive(room.remote.name, txn_id, pdus, [])
    assert not any(json.loads(answer)["pdus"].values())


async def test_who_works_on_a_room_hears_at_once_what_another_host_has_staged(federation: Federation) -> None:
    """While the first host waits for a server that does not answer, nothing looks for more in vain: it is told."""
    async with two_hosts(federation) as (one, two):
        remote, second = await federation.remote(), await federation.remote()
        alice = await one.register("alice")
        room = await RemoteRoom.join(one, remote, await alice.create_room(**PUBLIC), "bob")
        third = RemoteRoom(one, second, room.room_id)
        await third.look()
        go_on = asyncio.Event()

        async def slow(asked: Asked) -> Any:
            del asked
            await go_on.wait()
            return status(404, {"errcode": "M_NOT_FOUND", "error": ""})

        for method in ("GET", "POST"):
            remote.answers(method, f"{V1}/*", slow)
        try:
            await room.send(room.chain("bob", 2)[-1])
            await asyncio.sleep(0.5)
            carol = third.says(
                "carol", "m.room.member", {"membership": "join"}, state_key=second.user("carol")
            )
            began = time.monotonic()
            await hand_over(two, third, "t1", carol)
            await third.arrives(carol, within=20)
            took = time.monotonic() - began
            print(f"heard of by the other host after {took:.2f} s")
            assert two.app is not None
            assert two.app.features.federation_inbound.inbound.at_work == 0
        finally:
            go_on.set()


async def test_a_dead_host_is_replaced_within_five_seconds(federation: Federation) -> None:
    """What it has staged and not worked off is not forgotten, and nobody has to send it again."""
    # A machine that stood still meanwhile says nothing of the lease, which is three seconds long.
    took = [await until_replaced(federation)]
    while min(took) > 5 and len(took) < 3:
        took.append(await until_replaced(federation))
    assert min(took) < 5


async def until_replaced(federation: Federation) -> float:
    """Seconds from the death of one of two hosts to what it had staged being in the room."""
    async with two_hosts(federation) as (one, _):
        remote = await federation.remote()
        alice = await one.register("alice")
        room = await RemoteRoom.join(one, remote, await alice.create_room(**PUBLIC), "bob")
        await room.drained()
        assert one.app is not None
        inbound = one.app.features.federation_inbound.inbound
        inbound.work_with(inbound._parts._replace(receiver=Hanging()))  # type: ignore[union-attr]  # it has parts
        event = room.says("bob", "m.room.message", TEXT)
        await room.send(event)
        await asyncio.sleep(0.2)
        assert inbound.at_work == 1
        inbound.close()  # as if it was killed: the lease is not given up
        began = time.monotonic()
        await room.arrives(event, within=20)
        took = time.monotonic() - began
        print(f"taken up by the other host after {took:.1f} s")
        return took


class Hanging:
    """Never comes back."""

    async def receive_many(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()
