"""A room of a real Synapse with 2 000 members, joined by an Atrium that has somebody else to serve meanwhile.

Making the room takes Synapse minutes, so it is done by hand, on a machine that does nothing else (`--load`);
`ATRIUM_TEST_LARGE_ROOM` names a folder in which the room is kept for the next time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import yaml

from tests.interop.shared_rooms import until
from tests.reliability.test_inbound_kill9 import killable
from tests.support.bystander import Bystander, Noticed
from tests.support.faulty_net import FaultyNet, faulty_net
from tests.support.federation import Federation
from tests.support.partner import Partner, running_synapse
from tests.support.process import free_port
from tests.support.server import of_process

pytestmark = [pytest.mark.interop, pytest.mark.load]

MEMBERS = 2_000
JOINS = 3
"""Each by an Atrium of its own."""
AT_ONCE = 4
TOKEN = "of-the-members"  # all belong to one application service
GOAL = 1.0
"""Seconds from the other server's answer to ours."""
BOUND = 10.0
"""The same, on a machine that is busy."""


def application_service(folder: Path) -> Path:
    """One that members need no password for: its registration, as Synapse reads it."""
    users = [{"exclusive": False, "regex": "@member.*"}]
    registration = {
        "id": "members",
        "url": None,
        "as_token": TOKEN,
        "hs_token": "unused",
        "sender_localpart": "members",
        "rate_limited": False,
        "namespaces": {"users": users, "aliases": [], "rooms": []},
    }
    path = folder / "members.yaml"
    path.write_text(yaml.safe_dump(registration))
    return path


async def large_room(partner: Partner) -> str:
    """A public room of the partner with so many members."""
    sven = await partner.register("sven")
    room = await sven.create_room(preset="public_chat", name="Everybody")
    waiting = iter(range(MEMBERS - 1))

    async def some() -> None:
        for number in waiting:
            body = {
                "type": "m.login.application_service",
                "username": f"member{number}",
                "inhibit_login": True,
            }
            await partner.client.post("/register", token=TOKEN, json=body)
            whose = {"user_id": f"@member{number}:{partner.name}"}
            await partner.client.post("/join/{}", room, token=TOKEN, json={}, params=whose)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return room


async def joined(stack: AsyncExitStack, federation: Federation, net: FaultyNet, room: str, via: str) -> str:
    """By somebody of a new Atrium; the figures in words."""
    config = federation.config()
    process = stack.enter_context(killable(config, 1))
    await asyncio.to_thread(process.start)
    here = of_process(process)
    stack.push_async_callback(here.close)
    anna = await here.register("anna")
    bystander = await Bystander.arrive(process.base_url)
    stack.push_async_callback(bystander.leave)
    alone = await bystander.alone()
    async with bystander.watching() as during:
        began = time.monotonic()
        await anna.join(room, via=[via])
        took = time.monotonic() - began
        (answered,) = [at for path, at in net.answered_at.items() if "/send_join/" in path]
    net.answered_at.clear()
    ours = began + took - answered

    async def whole() -> bool:
        return len(await anna.members(room)) > MEMBERS

    await until(whole, "all members are there")
    check(ours, during)
    return f"{ours:.2f} s after the other server's answer, {took:.2f} s in all\n  alone: {alone}\n  meanwhile: {during}"


def check(seconds: float, during: Noticed) -> None:
    """Whether it was soon enough for a machine that is busy, and others did not wait for it."""
    assert seconds < BOUND
    assert not during.refused, during


@dataclass(frozen=True)
class Kept:
    """A room that was made already: its ID, and the port in the name of its server."""

    room: str
    named: int


def kept(folder: Path) -> Kept | None:
    """What was made in the folder before."""
    path = folder / "room.json"
    return Kept(**json.loads(path.read_text())) if path.exists() else None


@pytest.mark.timeout(1_800)
async def test_it_is_joined_while_others_go_on(federation: Federation, tmp_path: Path) -> None:
    """FED-20"""
    folder = Path(os.environ.get("ATRIUM_TEST_LARGE_ROOM", tmp_path))
    before = kept(folder)
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(faulty_net(federation.certificate, random.Random(1)))
        named = before.named if before else free_port()
        options = {"app_service_config_files": [str(application_service(folder))]}
        running = running_synapse(folder / "synapse", federation.certificate, named=named, options=options)
        partner = await stack.enter_async_context(running)
        await net.stand_before(partner.name, named, partner.relay.port)
        if before is None:
            began = time.monotonic()
            before = Kept(await large_room(partner), named)
            print(f"\n{MEMBERS} members, made in {time.monotonic() - began:.0f} s")
            (folder / "room.json").write_text(json.dumps(asdict(before)))
        for number in range(JOINS):
            told = await joined(stack, federation, net, before.room, partner.name)
            print(f"join {number + 1}, the goal is {GOAL} s: {told}")
