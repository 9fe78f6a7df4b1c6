"""Users come into rooms of a real Synapse and out of them, and Synapse's users into ours (FED-18 to FED-28, JOIN-01 to JOIN-03)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import CheckedClient
from tests.support.federation import Federation
from tests.support.process import free_port
from tests.support.server import Server
from tests.support.synapse import Synapse, SynapseSettings, ensure_environment
from tests.support.user import User

VERSIONS = ["6", "8", "10", "11", "12"]
_numbers = count(1)


class Partner:
    """A Synapse over TLS."""

    def __init__(self, synapse: Synapse) -> None:
        self.synapse = synapse
        self.name = synapse.settings.server_name
        self.client = CheckedClient(synapse.url)

    async def register(self, name: str) -> User:
        body = {"username": f"{name}{next(_numbers)}", "password": "x", "auth": {"type": "m.login.dummy"}}
        reply = await self.client.post("/register", json=body)
        return User(
            client=self.client,
            user_id=reply["user_id"],
            token=reply["access_token"],
            device_id=reply["device_id"],
            password="x",
        )


@pytest.fixture
async def partner(federation: Federation, tmp_path: Path) -> AsyncIterator[Partner]:
    port, tls = free_port(), free_port()
    certificate = federation.certificate
    listener = {"type": "http", "bind_addresses": ["127.0.0.1"]}
    extra: dict[str, Any] = {
        "listeners": [
            {**listener, "port": port, "resources": [{"names": ["client"], "compress": False}]},
            {**listener, "port": tls, "tls": True, "resources": [{"names": ["federation"]}]},
        ],
        "tls_certificate_path": str(certificate),
        "tls_private_key_path": str(certificate.with_suffix(".key")),
    }
    settings = SynapseSettings(port, server_name=f"localhost:{tls}", extra=extra)
    python = await asyncio.to_thread(ensure_environment)
    synapse = await asyncio.to_thread(Synapse.start, tmp_path / "synapse", settings, python)
    partner = Partner(synapse)
    yield partner
    await partner.client.close()
    await asyncio.to_thread(synapse.stop, remove=True)


async def until_member(user: User, room: str, whom: str, membership: str) -> None:
    """Synapse works some things off after it has answered."""
    for _ in range(100):
        members = await user.members(room)
        if members.get(whom) == membership:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{whom} is {members.get(whom)}, not {membership}")


async def invited(user: User, room: str) -> None:
    for _ in range(100):
        if room in (await user.sync(since=None)).get("rooms", {}).get("invite", {}):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the invite has not come")


async def both_ways(here: Server, partner: Partner, version: str, *, ours: bool) -> None:
    """Everything that can be done with a room of one server from the other."""
    anna, sven = await here.register("anna"), await partner.register("sven")
    owner, guest = (anna, sven) if ours else (sven, anna)
    home = here.name if ours else partner.name
    room = await owner.create_room(preset="public_chat", room_version=version, name="Everybody")
    await guest.join(room, via=[home])
    await until_member(owner, room, guest.user_id, "join")
    assert (await guest.members(room))[owner.user_id] == "join"
    assert (await guest.state(room, "m.room.name"))["name"] == "Everybody"

    few = await owner.create_room(room_version=version, name="Few", preset="private_chat")
    await owner.invite(few, guest)
    await invited(guest, few)
    await guest.leave(few)
    await until_member(owner, few, guest.user_id, "leave")
    await owner.invite(few, guest)
    await invited(guest, few)
    await guest.join(few)
    await until_member(owner, few, guest.user_id, "join")
    assert (await guest.members(few))[owner.user_id] == "join"

    await guest.join(await owner.create_room(preset="private_chat"), via=[home], expect=(403, "M_FORBIDDEN"))
    if int(version) >= 7:
        await knocking(owner, guest, home, version)
    if int(version) >= 8:
        await restricted(owner, guest, home, version)


async def knocking(owner: User, guest: User, home: str, version: str) -> None:
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room = await owner.create_room(room_version=version, initial_state=rules, name="Knock")
    await guest.post("/knock/{}", room, json={"reason": "please"}, params={"server_name": [home]})
    await until_member(owner, room, guest.user_id, "knock")
    await guest.leave(room)
    await until_member(owner, room, guest.user_id, "leave")
    await guest.post("/knock/{}", room, json={}, params={"server_name": [home]})
    await until_member(owner, room, guest.user_id, "knock")
    await owner.invite(room, guest)
    await invited(guest, room)
    await guest.join(room)
    await until_member(owner, room, guest.user_id, "join")


async def restricted(owner: User, guest: User, home: str, version: str) -> None:
    space = await owner.create_room(preset="public_chat", room_version=version)
    allow = [{"type": "m.room_membership", "room_id": space}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room = await owner.create_room(room_version=version, initial_state=[rules])
    await guest.join(room, via=[home], expect=(403, "M_FORBIDDEN"))
    await guest.join(space, via=[home])
    await guest.join(room, via=[home])
    await until_member(owner, room, guest.user_id, "join")
    member = await guest.state(room, "m.room.member", guest.user_id)
    assert member["join_authorised_via_users_server"] == owner.user_id


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("ours", [True, False], ids=["our room", "synapse's room"])
async def test_rooms_of_all_versions(federation: Federation, partner: Partner, ours: bool) -> None:
    here = await federation.start()
    for version in VERSIONS:
        await both_ways(here, partner, version, ours=ours)
