"""Events that rest on a chain of thousands of others, each on the one before: what another server makes us check, and how."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom
from tests.support.user import User
from tests.support.waiting import until

V1 = "/_matrix/federation/v1"
LENGTHS = [2_000, pytest.param(99_000, marks=pytest.mark.load)]
"""The second is nearly as many events as a room may have that is joined."""
MINUTES = 300.0


def deepen(room: RemoteRoom, length: int) -> None:
    """So many power levels, each allowed by the last."""
    users = {} if room.version.privileged_creators else {room.creator: 100}
    for number in range(length):
        room.send("m.room.power_levels", {"users": users, "events": {"m.x": number % 50}}, "")


@asynccontextmanager
async def measured(what: str, beside: User) -> AsyncIterator[None]:
    """Prints what it costs, both sides together; somebody speaks meanwhile."""
    own = await beside.create_room()
    waits: list[float] = []

    async def speak() -> None:
        while True:
            began = time.monotonic()
            await beside.send(own, "beside")
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.02)

    speaking = asyncio.create_task(speak())
    began, cpu = time.monotonic(), time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        yield
    finally:
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(
        f"{what}: {time.monotonic() - began:.1f} s, {time.process_time() - cpu:.1f} s of CPU in this process, {more:.0f} MiB more"
        f" at most; a message beside took {sorted(waits)[len(waits) // 2]:.3f} s, {max(waits):.3f} at worst"
    )


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_room_whose_state_rests_on_a_deep_chain_is_joined(
    federation: Federation, length: int
) -> None:
    """FED-20: whole, and without recursion."""
    here, remote = await federation.start(), await federation.remote()
    room = RemoteRoom(remote, "11")
    await asyncio.to_thread(deepen, room, length)
    await asyncio.to_thread(room.freeze)
    room.serves()
    anna, berta = await here.register("anna"), await here.register("berta")
    async with measured(f"a join of a chain of {length}", berta):
        await anna.join(room.name, via=[remote.name])
    levels = await anna.state(room.name, "m.room.power_levels")
    assert levels["events"] == {"m.x": (length - 1) % 50}


@pytest.mark.parametrize("length", LENGTHS)
async def test_an_event_that_rests_on_a_deep_chain_is_received(federation: Federation, length: int) -> None:
    """FED-14: all of it was missed, and is told as the state before the event."""
    here, remote = await federation.start(), await federation.remote()
    room = RemoteRoom(remote, "11")
    room.serves()
    anna, berta = await here.register("anna"), await here.register("berta")
    await anna.join(room.name, via=[remote.name])
    await asyncio.to_thread(deepen, room, length)
    event = room.send("m.room.message", {"msgtype": "m.text", "body": "on top"})
    state = [each.event_id for each in room.state.values()]
    chain = [each for each in room.events if each.key is not None]
    pdus = b",".join(each.pdu for each in room.state.values())
    whole = b'{"pdus":[%b],"auth_chain":[%b]}' % (pdus, b",".join(each.pdu for each in chain))
    ids = json.dumps({"pdu_ids": state, "auth_chain_ids": [each.event_id for each in chain]}).encode()
    remote.answers("POST", f"{V1}/get_missing_events/*", {"events": []})
    remote.answers("GET", f"{V1}/state_ids/*", ids)
    remote.answers("GET", f"{V1}/state/*", whole)
    body = {"origin": remote.name, "origin_server_ts": 1, "pdus": [dict(event.fields)]}
    async with measured(f"an event on a chain of {length}", berta):
        code, _ = await remote.ask(here, "PUT", f"{V1}/send/1", body)
        assert code == 200
        assert here.app is not None
        events = here.app.features._core.events

        async def has_come() -> bool:
            return await events.by_id(event.event_id) is not None

        await until(has_come, within=MINUTES if length > 10_000 else 60)
    persisted = await events.by_id(event.event_id)
    assert persisted is not None
    assert not persisted.flags
    levels = await anna.state(room.name, "m.room.power_levels")
    assert levels["events"] == {"m.x": (length - 1) % 50}
