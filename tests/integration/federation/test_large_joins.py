"""Joining large rooms of other servers: quickly, beside everybody else, whole or not at all (FED-20)."""

from __future__ import annotations

import asyncio
import time

import pytest

from homeserver.graph.state.drift import DriftCheck
from homeserver.runtime.clock import Entropy, SystemClock
from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom
from tests.support.server import Server
from tests.support.user import User


async def large(federation: Federation, members: int) -> tuple[Server, User, RemoteRoom]:
    here, remote = await federation.start(), await federation.remote()
    room = RemoteRoom(remote, "11")
    await asyncio.to_thread(room.members, members)
    await asyncio.to_thread(room.freeze)
    room.serves()
    return here, await here.register("anna"), room


async def drift(here: Server, room: RemoteRoom) -> list[str]:
    assert here.app is not None
    core = here.app.features._core
    check = DriftCheck(core.db, core.server_name, SystemClock(), Entropy())
    known = await core.rooms.known(room.room_id)
    return [each.sentence async for each in check.room(known.name.nid)]


@pytest.mark.parametrize(
    ("members", "seconds"),
    [(2_000, 20.0), pytest.param(20_000, 120.0, marks=pytest.mark.slow)],
)
async def test_a_large_room_is_joined_while_others_go_on(
    federation: Federation, members: int, seconds: float
) -> None:
    """The goal is 1 s and 10 s after the other server's answer; the bound here is for a machine that does much else."""
    here, anna, room = await large(federation, members)
    berta = await here.register("berta")
    own = await berta.create_room()
    joining = asyncio.create_task(anna.join(room.name, via=[room.remote.name]))
    waits: list[float] = []
    while not joining.done():
        began = time.monotonic()
        await berta.send(own, "beside")
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.02)
    await joining
    took = time.monotonic() - room.answered_at
    waits.sort()
    print(
        f"{members} members: {took:.2f} s; a message beside: median {waits[len(waits) // 2]:.3f}, worst {waits[-1]:.3f}"
    )
    assert took < seconds
    assert here.app is not None
    known = await here.app.features._core.rooms.known(room.room_id)
    assert known.joined_count == members + 2
    assert await drift(here, room) == []


async def test_a_join_that_was_cut_off_is_no_join_and_the_next_one_is(federation: Federation) -> None:
    """Whatever was stored before stays and is found again."""
    here, anna, room = await large(federation, 300)
    assert here.app is not None
    core = here.app.features._core
    append = core.log.add

    def refuse(entry: object) -> None:
        raise RuntimeError("cut off")

    core.log.add = refuse  # type: ignore[assignment, method-assign]  # as if the process had ended before the last step
    await anna.join(room.name, via=[room.remote.name], expect=500)
    core.log.add = append  # type: ignore[method-assign]  # it goes on
    assert room.name not in (await anna.sync(since=None)).get("rooms", {}).get("join", {})
    await anna.get("/rooms/{}/state", room.name, expect=403)
    room.freeze()  # the other server has accepted the first join
    await anna.join(room.name, via=[room.remote.name])
    assert len(await anna.members(room.name)) == 302
    assert await drift(here, room) == []
