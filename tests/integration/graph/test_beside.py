"""Invites to rooms that this server is not in, and how they end: what the user is told (FED-25, FED-28, SYNC-13)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from homeserver.events.client_format import stripped
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.graph.write.beside import NotAway, Unfit
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import RoomId
from tests.integration.graph.test_adoption import PASSAGE, adopt, drift
from tests.support.factory import ALICE, RoomFactory
from tests.support.graph import process


def told(room: RoomFactory) -> list[bytes]:
    return [stripped(room.current("m.room.create")), stripped(room.current("m.room.name"))]


def private(version: str = "12") -> RoomFactory:
    room = RoomFactory.public(version)
    room.state_event("m.room.name", {"name": "Elsewhere"})
    room.join_rule("invite")
    return room


@pytest.mark.parametrize("version", ["1", "6", "12"])
async def test_an_invite_is_seen_and_taken_back(database: str, tmp_path: Path, version: str) -> None:
    remote = private(version)
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        since = (await here.sync(anna))["next_batch"]
        invite = remote.member(anna.user_id, "invite", by=ALICE)
        await here.core.beside.put(invite, PASSAGE, told(remote))
        for answer in (await here.sync(anna, since), await here.sync(anna)):
            events = answer["rooms"]["invite"][remote.room_id]["invite_state"]["events"]
            assert [event["type"] for event in events] == ["m.room.create", "m.room.name", "m.room.member"]
            assert events[-1]["content"]["membership"] == "invite"
        since = answer["next_batch"]
        taken_back = remote.member(anna.user_id, "leave", by=ALICE)
        await here.core.beside.put(taken_back, PASSAGE)
        news = (await here.sync(anna, since))["rooms"]["leave"][remote.room_id]
        assert [e["event_id"] for e in news["state"]["events"]] == [taken_back.event_id]
        assert news["timeline"]["events"] == []
        assert (
            "rooms" not in await here.sync(anna)
            or remote.room_id not in (await here.sync(anna))["rooms"]["invite"]
        )
        whole = await here.sync(anna, filter={"room": {"include_leave": True}})
        assert remote.room_id in whole["rooms"]["leave"]


async def test_the_same_invite_twice_at_once_is_one(database: str, tmp_path: Path) -> None:
    remote = private()
    async with process(database, tmp_path) as here:
        anna, berta = await here.user("anna"), await here.user("berta")
        first = remote.member(anna.user_id, "invite", by=ALICE)
        second = remote.member(berta.user_id, "invite", by=ALICE)
        await asyncio.gather(*(here.core.beside.put(each, PASSAGE, []) for each in (first, second) * 4))
        for user in (anna, berta):
            assert remote.room_id in (await here.sync(user))["rooms"]["invite"]


async def test_nothing_is_built_in_a_room_that_goes_on_without_us(database: str, tmp_path: Path) -> None:
    remote = private()
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        await here.core.beside.put(remote.member(anna.user_id, "invite", by=ALICE), PASSAGE, [])
        with pytest.raises(Forbidden):
            await here.rooms.sending.put_state(
                anna, remote.room_id, ("m.room.member", anna.user_id), {"membership": "join"}
            )
        with pytest.raises(Forbidden):
            await here.send(anna, remote.room_id, "hello")


async def test_an_invite_is_taken(database: str, tmp_path: Path) -> None:
    remote = private()
    async with process(database, tmp_path) as here:
        anna, berta = await here.user("anna"), await here.user("berta")
        for user in (anna, berta):
            await here.core.beside.put(remote.member(user.user_id, "invite", by=ALICE), PASSAGE, told(remote))
        since = (await here.sync(anna))["next_batch"]
        room_id = await adopt(here, remote)
        assert await drift(here, room_id) == []
        rooms = (await here.sync(anna, since))["rooms"]
        assert room_id in rooms["join"]
        assert room_id not in rooms.get("invite", {})
        assert room_id in (await here.sync(berta))["rooms"]["invite"]
        with pytest.raises(NotAway):
            await here.core.beside.put(remote.draft_member(anna.user_id, "leave", by=ALICE), PASSAGE)
        await here.rooms.membership.join(berta, room_id)
        assert await drift(here, room_id) == []


async def test_an_invite_after_leaving(database: str, tmp_path: Path) -> None:
    remote = private()
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        await here.core.beside.put(remote.member(anna.user_id, "invite", by=ALICE), PASSAGE, told(remote))
        room_id = await adopt(here, remote)
        await here.send(anna, room_id, "bye")
        await here.rooms.membership.leave(anna, room_id)
        remote.member(anna.user_id, "leave")
        since = (await here.sync(anna))["next_batch"]
        await here.core.beside.put(remote.member(anna.user_id, "invite", by=ALICE), PASSAGE, told(remote))
        news = await here.sync(anna, since)
        assert len(news["rooms"]["invite"][room_id]["invite_state"]["events"]) == 3
        await here.core.beside.put(remote.member(anna.user_id, "leave", by=ALICE), PASSAGE)
        news = await here.sync(anna, news["next_batch"])
        assert room_id in news["rooms"]["leave"]
        assert await drift(here, room_id) == []
        # What was said while they were in is still theirs to read.
        access = await here.rooms.access.of(anna, room_id)
        assert access.left_at is not None


async def test_what_an_invite_says_of_the_version_counts_until_somebody_joins(
    database: str, tmp_path: Path
) -> None:
    """Else any server could keep others out of a room by inviting them into it first."""
    said, true = private("10"), private("11")
    assert said.room_id == true.room_id
    async with process(database, tmp_path) as here:
        anna, berta = await here.user("anna"), await here.user("berta")
        await here.core.beside.put(said.member(anna.user_id, "invite", by=ALICE), PASSAGE, [])
        true.member(anna.user_id, "invite", by=ALICE)
        room_id = await adopt(here, true)
        assert (await here.core.rooms.known(room_id)).name.version.id == "11"
        assert await drift(here, room_id) == []
        await here.send(anna, room_id, "hello")
        with pytest.raises(NotAway):
            await here.core.beside.put(true.draft_member(berta.user_id, "invite", by=ALICE), PASSAGE, [])
        with pytest.raises(Unfit):
            await here.core.beside.put(said.draft_member(berta.user_id, "invite", by=ALICE), PASSAGE, [])


@pytest.mark.parametrize(("version", "room_id"), [("12", "!room:one.example"), ("11", "!abc")])
async def test_ids_that_no_room_of_the_version_has_are_refused(
    database: str, tmp_path: Path, version: str, room_id: str
) -> None:
    async with process(database, tmp_path) as here:
        with pytest.raises(Unfit):
            await here.core.beside.identity(RoomId(room_id), ROOM_VERSIONS[version])
