"""Plays: users come into rooms of another homeserver and out of them, and its users into ours."""

from __future__ import annotations

from tests.interop.shared_rooms import PATIENCE, Play, has_state
from tests.support.partner import until_invited, until_member

SIGNED_STATE = 12
"""From this room version on an invite comes with signed events alone."""
VERSIONS = ("6", "7", "8", "9", "10", "11", "12")


async def coming_and_going(play: Play, version: str) -> None:
    """Everything that can be done with a room of one server from the other."""
    owner, guest, home = play.owner, play.guest, play.home
    room = await owner.create_room(preset="public_chat", room_version=version, name="Everybody")
    await guest.join(room, via=[home])
    await until_member(owner, room, guest.user_id, "join")
    await until_member(guest, room, owner.user_id, "join")
    await has_state(guest, room, "m.room.name", {"name": "Everybody"})

    few = await owner.create_room(room_version=version, name="Few", preset="private_chat")
    if int(version) >= SIGNED_STATE and not play.does("signed state in invites", owner):
        await owner.invite(few, guest, expect=(403, "M_FORBIDDEN"))
    else:
        await invited(play, few)

    await guest.join(await owner.create_room(preset="private_chat"), via=[home], expect=(403, "M_FORBIDDEN"))
    if int(version) >= 7 and play.does("knocks", owner, guest):
        await knocking(play, version)
    if int(version) >= 8:
        await restricted(play, version)


async def invited(play: Play, room: str) -> None:
    """Refused, then taken back, then accepted."""
    owner, guest = play.owner, play.guest
    await owner.invite(room, guest)
    await until_invited(guest, room)
    await guest.leave(room)
    await until_member(owner, room, guest.user_id, "leave")
    if play.does("rescinded invites", owner, guest):
        await rescinded(play, room)
    await owner.invite(room, guest)
    await until_invited(guest, room)
    await guest.join(room)
    await until_member(owner, room, guest.user_id, "join")
    await until_member(guest, room, owner.user_id, "join")


async def knocking(play: Play, version: str) -> None:
    owner, guest = play.owner, play.guest
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room = await owner.create_room(room_version=version, initial_state=rules, name="Knock")
    home = owner.server_name
    await guest.post("/knock/{}", room, json={"reason": "please"}, params={"server_name": [home]})
    await until_member(owner, room, guest.user_id, "knock")
    if play.does("withdrawn knocks", guest):
        await guest.leave(room)
        await until_member(owner, room, guest.user_id, "leave")
        await guest.post("/knock/{}", room, json={}, params={"server_name": [home]})
        await until_member(owner, room, guest.user_id, "knock")
    # Synapse tells of the invite those who wait for it, and in a first sync still of the knock
    await guest.sync()
    await owner.invite(room, guest)
    await until_invited(guest, room)
    await guest.join(room)
    await until_member(owner, room, guest.user_id, "join")


async def restricted(play: Play, version: str) -> None:
    owner, guest, home = play.owner, play.guest, play.home
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


async def rescinded(play: Play, room: str) -> None:
    """An invite that is taken back is taken from who was invited."""
    owner, guest = play.owner, play.guest
    await owner.invite(room, guest)
    await until_invited(guest, room)
    await owner.kick(room, guest)
    await guest.sync_until(lambda reply: room in reply.get("rooms", {}).get("leave", {}), timeout=PATIENCE)
