"""A room that somebody of ours has joined through another server becomes a room of this server (FED-20)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homeserver.e2ee.tracking import DeviceTracking
from homeserver.graph.refs import JOIN
from homeserver.graph.state.drift import DriftCheck
from homeserver.graph.write.adopt import NotAway, Unfit
from homeserver.graph.write.receive import MissingEvents
from homeserver.matrix.ids import RoomId
from homeserver.policy.passages import system_passage
from homeserver.runtime.clock import Entropy, SystemClock
from tests.support.factory import BOB, CAROL, DAVE, RoomFactory
from tests.support.graph import Process, process

PASSAGE = system_passage("a test")


def elsewhere(version: str = "12") -> RoomFactory:
    room = RoomFactory.public(version)
    room.join(BOB, CAROL, DAVE)
    room.member(CAROL, "leave")
    room.state_event("m.room.name", {"name": "Elsewhere"})
    room.message(by=BOB)
    return room


async def adopt(here: Process, room: RoomFactory, name: str = "anna", **change: Any) -> RoomId:
    """Somebody of ours joins `room` through another server."""
    user = f"@{name}:{here.core.server_name}"
    state = list(room.state.values())
    join = room.member(user, "join")
    chain = [event for event in room.events.values() if event.key is not None]
    told: dict[str, Any] = {"state": state, "auth_chain": chain, "join": join} | change
    name_of_room = await here.core.adoption.adopt(told["join"], told["state"], told["auth_chain"], PASSAGE)
    return name_of_room.room_id


async def drift(here: Process, room_id: RoomId) -> list[Any]:
    check = DriftCheck(here.core.db, here.core.server_name, SystemClock(), Entropy())
    room = await here.core.rooms.known(room_id)
    return [each async for each in check.room(room.name.nid)]


@pytest.mark.parametrize("version", ["1", "3", "6", "11", "12"])
async def test_a_joined_room_is_there_whole(database: str, tmp_path: Path, version: str) -> None:
    remote = elsewhere(version)
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        before = await here.sync(anna)
        room_id = await adopt(here, remote)
        room = await here.core.rooms.known(room_id)
        assert set(room.state) == set(remote.state)
        assert room.joined_count == 4
        assert not room.away
        assert await drift(here, room_id) == []
        news = (await here.sync(anna, before["next_batch"]))["rooms"]["join"][room_id]
        told = {(event["type"], event["state_key"]) for event in news["state"]["events"]}
        assert told >= {("m.room.create", ""), ("m.room.name", ""), ("m.room.member", BOB)}
        assert [event["content"]["membership"] for event in news["timeline"]["events"]] == ["join"]
        whole = (await here.sync(anna))["rooms"]["join"][room_id]
        assert {(e["type"], e["state_key"]) for e in whole["state"]["events"]} == told
        await here.send(anna, room_id, "hello")
        assert await drift(here, room_id) == []


async def test_events_after_the_join_are_received(database: str, tmp_path: Path) -> None:
    remote = elsewhere()
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        room_id = await adopt(here, remote)
        since = (await here.sync(anna))["next_batch"]
        received = await here.core.receiver.receive(remote.message(by=BOB))
        assert not received.flags
        named = remote.state_event("m.room.name", {"name": "New"})
        assert not (await here.core.receiver.receive(named)).flags
        news = (await here.sync(anna, since))["rooms"]["join"][room_id]
        assert [event["sender"] for event in news["timeline"]["events"]] == [BOB, remote.creator]
        assert await drift(here, room_id) == []


async def test_a_second_join_through_another_server_finds_the_room_here(
    database: str, tmp_path: Path
) -> None:
    remote = elsewhere()
    async with process(database, tmp_path) as here:
        await adopt(here, remote)
        with pytest.raises(NotAway):
            await adopt(here, remote, "berta")


async def test_leaving_and_joining_again_takes_the_state_of_then(database: str, tmp_path: Path) -> None:
    remote = elsewhere()
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        room_id = await adopt(here, remote)
        await here.send(anna, room_id, "bye")
        await here.rooms.membership.leave(anna, room_id)
        room = await here.core.rooms.known(room_id)
        assert room.away
        since = (await here.sync(anna))["next_batch"]
        remote.member(anna.user_id, "leave")
        remote.member(BOB, "leave")
        remote.state_event("m.room.topic", {"topic": "new"})
        await adopt(here, remote)
        room = await here.core.rooms.known(room_id)
        assert set(room.state) == set(remote.state)
        assert room.joined_count == 3
        assert room.membership(anna.user_id) == JOIN
        assert await drift(here, room_id) == []
        news = (await here.sync(anna, since))["rooms"]["join"][room_id]
        assert ("m.room.topic", "") in {(e["type"], e["state_key"]) for e in news["state"]["events"]}
        assert news["timeline"]["limited"]
        await here.core.receiver.receive(remote.message())
        assert (await here.sync(anna, since))["rooms"]["join"][room_id]["timeline"]["events"]


async def test_nothing_is_left_of_what_does_not_fit(database: str, tmp_path: Path) -> None:
    other = RoomFactory.public(type="m.space")
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        for change, error in (
            (lambda room: {"state": [e for e in room.state.values() if e.type != "m.room.create"]}, Unfit),
            (lambda room: {"state": [*room.state.values(), *other.state.values()]}, Unfit),
            (lambda room: {"state": [*room.state.values(), room.draft_member(BOB, "leave")]}, Unfit),
            (lambda room: {"state": [*room.state.values(), room.message()]}, Unfit),
            (lambda room: {"auth_chain": []}, MissingEvents),
            (lambda room: {"join": other.draft_member(anna.user_id, "join")}, Unfit),
            (lambda room: {"join": room.draft_member(anna.user_id, "knock")}, Unfit),
        ):
            remote = elsewhere()
            remote.power_levels(users={BOB: 50})
            with pytest.raises(error):
                await adopt(here, remote, **change(remote))
            assert (await here.sync(anna)).get("rooms", {}).get("join", {}) == {}


async def test_who_is_not_let_in_has_not_joined(database: str, tmp_path: Path) -> None:
    remote = elsewhere()
    remote.join_rule("invite")
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        join = remote.draft_member(anna.user_id, "join")
        chain = [event for event in remote.events.values() if event.key is not None]
        with pytest.raises(Unfit, match="does not let the user in"):
            await here.core.adoption.adopt(join, list(remote.state.values()), chain, PASSAGE)


async def test_what_the_rules_do_not_allow_is_left_out_of_the_state(database: str, tmp_path: Path) -> None:
    remote = elsewhere()
    theft = remote.add(remote.draft("m.room.topic", {"topic": "mine"}, by=DAVE, key=""))
    async with process(database, tmp_path) as here:
        room_id = await adopt(here, remote)
        room = await here.core.rooms.known(room_id)
        assert theft.key not in room.state
        assert await drift(here, room_id) == []


async def test_who_has_gone_while_we_were_away_is_told_to_whoever_looks_at_device_lists(
    database: str, tmp_path: Path
) -> None:
    """E2E-11, E2E-12: users of other servers, read from the database."""
    remote = elsewhere()
    remote.state_event("m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
    async with process(database, tmp_path) as here:
        anna = await here.user("anna")
        tracking = DeviceTracking(here.core.db, here.core.rooms, here.rooms.memberships, here.core.interning)
        room_id = await adopt(here, remote)
        before = here.core.tail.position
        await here.core.receiver.receive(remote.member(DAVE, "leave"))
        gone = here.core.tail.position
        assert await tracking.between(anna, before, gone, None) == (set(), {DAVE})
        await here.rooms.membership.leave(anna, room_id)
        remote.member(anna.user_id, "leave")
        remote.member(BOB, "leave")
        remote.join(CAROL)
        await adopt(here, remote)
        back = here.core.tail.position
        assert await tracking.between(anna, gone, back, None) == ({CAROL}, {BOB})
        assert await tracking.between(anna, before, back, None) == ({CAROL}, {BOB, DAVE})
        assert await drift(here, room_id) == []
