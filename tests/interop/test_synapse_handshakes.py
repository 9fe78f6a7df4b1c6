"""Users come into rooms of a real Synapse and out of them, and Synapse's users into ours (FED-18 to FED-28, JOIN-01 to JOIN-03)."""

from __future__ import annotations

import pytest

from tests.support.federation import Federation
from tests.support.partner import Partner, until_invited, until_member
from tests.support.server import Server
from tests.support.user import User

VERSIONS = ["6", "8", "10", "11", "12"]


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
    await until_invited(guest, few)
    await guest.leave(few)
    await until_member(owner, few, guest.user_id, "leave")
    await owner.invite(few, guest)
    await until_invited(guest, few)
    await guest.join(few)
    await until_member(owner, few, guest.user_id, "join")
    assert (await guest.members(few))[owner.user_id] == "join"

    await guest.join(await owner.create_room(preset="private_chat"), via=[home], expect=(403, "M_FORBIDDEN"))
    if int(version) >= 7:
        await knocking(owner, guest, partner, version)
    if int(version) >= 8:
        await restricted(owner, guest, home, version)


async def knocking(owner: User, guest: User, partner: Partner, version: str) -> None:
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room = await owner.create_room(room_version=version, initial_state=rules, name="Knock")
    home = owner.server_name
    await guest.post("/knock/{}", room, json={"reason": "please"}, params={"server_name": [home]})
    await until_member(owner, room, guest.user_id, "knock")
    if guest.server_name != partner.name:  # Synapse tells nobody that a knock is withdrawn
        await guest.leave(room)
        await until_member(owner, room, guest.user_id, "leave")
        await guest.post("/knock/{}", room, json={}, params={"server_name": [home]})
        await until_member(owner, room, guest.user_id, "knock")
    await (
        guest.sync()
    )  # Synapse tells of the invite those who wait for it, and in a first sync still of the knock
    await owner.invite(room, guest)
    await until_invited(guest, room)
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
