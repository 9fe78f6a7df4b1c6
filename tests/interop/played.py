"""The plays of rooms that are shared with another homeserver, put together: each is one test for each such program."""

from __future__ import annotations

from tests.interop.coming_in import VERSIONS, coming_and_going
from tests.interop.devices_elsewhere import devices_and_keys, messages_to_devices
from tests.interop.shared_rooms import (
    PATIENCE,
    Play,
    bodies,
    directory,
    ephemeral,
    ids,
    media,
    messages,
    moderation,
    profiles,
    referring,
    spaces,
    state_changes,
    until,
)
from tests.support.federation import Federation
from tests.support.partner import Partner, until_member


async def comings_and_goings(federation: Federation, partner: Partner, *, ours: bool) -> None:
    """FED-18 to FED-28, JOIN-01 to JOIN-03: in rooms of all versions."""
    here = await federation.start()
    for version in VERSIONS:
        await coming_and_going(await Play.begin(here, partner, ours=ours), version)


async def chats(federation: Federation, partner: Partner, versions: tuple[str, ...], *, ours: bool) -> None:
    """FED-08, FED-29: messages, what refers to them, state, membership and ephemeral events; in the last version many messages."""
    here = await federation.start()
    for version in versions:
        play = await Play.begin(here, partner, ours=ours)
        room = await play.room(room_version=version)
        await messages(play, room, many=version == versions[-1])
        await referring(play, room)
        await state_changes(play, room)
        await ephemeral(play, room)
        await moderation(play, room)


async def questions(federation: Federation, partner: Partner) -> None:
    """FED-36 to FED-38: profiles, aliases, public rooms, spaces and files of the other server, both ways."""
    here = await federation.start()
    for ours in (True, False):
        play = await Play.begin(here, partner, ours=ours)
        await profiles(play)
        await directory(play)
        await spaces(play)
        await media(play)


async def devices(federation: Federation, partner: Partner) -> None:
    """FED-30 to FED-34, TD-01, TD-02: what devices of the two servers need of each other, both ways."""
    here = await federation.start()
    for ours in (True, False):
        play = await Play.begin(here, partner, ours=ours)
        await messages_to_devices(play)
        await devices_and_keys(play)


async def history(federation: Federation, partner: Partner, *, ours: bool) -> None:
    """FED-16, ROOM-22: who comes later pages back to the beginning, through what the other server has."""
    play = await Play.begin(await federation.start(), partner, ours=ours)
    room = await play.owner.create_room(preset="public_chat")
    said = [f"message {number}" for number in range(1000)]
    for text in said:
        await play.owner.send(room, text)
    await play.guest.join(room, via=[play.home])
    await until_member(play.owner, room, play.guest.user_id, "join")
    # until its sync has told of the room Dendrite answers pages of it that are empty, and asks nobody
    await play.guest.sync_until(
        lambda reply: room in reply.get("rooms", {}).get("join", {}), timeout=PATIENCE
    )
    assert await ids(play.guest, room) == await ids(play.owner, room)
    assert await bodies(play.guest, room) == said
    await play.guest.send(room, "read all of it")
    await play.owner.sees(room, "read all of it", timeout=20)


async def upgrades(federation: Federation, partner: Partner, *, ours: bool) -> None:
    """People of both servers find the new room from the old one."""
    here = await federation.start()
    for before, after in (("6", "9"), ("10", "12")):
        await upgrade(await Play.begin(here, partner, ours=ours), before, after)


async def upgrade(play: Play, before: str, after: str) -> None:
    """From one version to another."""
    old = await play.room(room_version=before, name="Old")
    answer = await play.owner.post("/rooms/{}/upgrade", old, json={"new_version": after})
    new = answer["replacement_room"]

    async def tombstone() -> bool:
        found = await play.guest.exchange("GET", "/rooms/{}/state/m.room.tombstone/", old, expect=None)
        return found.status == 200 and bool(found.json["replacement_room"] == new)

    await until(tombstone, "the tombstone is seen")
    await play.guest.join(new, via=[play.home])
    await until_member(play.owner, new, play.guest.user_id, "join")
    created = await play.guest.state(new, "m.room.create")
    assert created["predecessor"]["room_id"] == old
    assert (await play.guest.state(new, "m.room.name"))["name"] == "Old"
    text = await play.guest.send(new, "moved")
    await play.owner.sees(new, text, timeout=20)
