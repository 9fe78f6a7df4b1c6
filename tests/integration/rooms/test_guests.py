"""Guests are in a room for as long as it lets guests in (GUEST-02)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from homeserver.graph.refs import BAN, JOIN, LEAVE
from homeserver.matrix.ids import RoomId
from homeserver.web.auth import Requester
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

ACCESS = "m.room.guest_access"
OPEN = {"type": ACCESS, "content": {"guest_access": "can_join"}}
CLOSED: list[dict[str, Any]] = [{"guest_access": "forbidden"}, {"guest_access": "by arrangement"}]


async def a_guest(server: Server) -> User:
    return server.user(await server.client.post("/register", json={}, params={"kind": "guest"}))


async def with_guest(server: Server, version: str = "11") -> tuple[User, User, User, str]:
    """Alice, Bob, a guest in Alice's room."""
    alice, bob, guest = await server.register("alice"), await server.register("bob"), await a_guest(server)
    room = await alice.create_room(preset="public_chat", room_version=version, initial_state=[OPEN])
    await bob.join(room)
    await guest.join(room)
    await guest.send(room, "hello")
    return alice, bob, guest, room


async def has_left(guest: User, alice: User, room: str) -> None:
    reply = await guest.sync_until(lambda reply: room in reply.get("rooms", {}).get("leave", {}))
    own = reply["rooms"]["leave"][room]["timeline"]["events"][-1]
    assert (own["state_key"], own["content"]["membership"]) == (guest.user_id, "leave")
    assert (await alice.members(room))[guest.user_id] == "leave"


@pytest.mark.parametrize("content", CLOSED)
@pytest.mark.parametrize("version", ["10", "12"])
async def test_when_guests_are_no_longer_let_in_they_leave_and_others_stay(
    server: Server, content: dict[str, Any], version: str
) -> None:
    alice, bob, guest, room = await with_guest(server, version)
    await guest.sync()
    await bob.put_state(room, ACCESS, content, expect=(403, "M_FORBIDDEN"))
    await alice.put_state(room, "m.room.topic", {"topic": "something else"})
    await alice.put_state(room, ACCESS, content)
    await has_left(guest, alice, room)
    assert (await alice.members(room))[bob.user_id] == "join"
    await guest.join(room, expect=(403, "M_FORBIDDEN"))
    await alice.put_state(room, ACCESS, {"guest_access": "can_join"})
    await guest.join(room)
    await guest.send(room, "back")


async def test_when_the_event_that_lets_guests_in_is_redacted_they_leave(server: Server) -> None:
    """What is redacted says nothing, and absent means forbidden."""
    alice, _, guest, room = await with_guest(server)
    await guest.sync()
    access = next(event for event in await alice.state(room) if event["type"] == ACCESS)
    await alice.redact(room, access["event_id"])
    await has_left(guest, alice, room)


async def test_who_is_no_guest_any_more_stays(server: Server) -> None:
    alice, _, guest, room = await with_guest(server)
    upgrade = {"username": f"{guest.localpart}", "password": "pw-Long-enough-1"}
    body = {**upgrade, "guest_access_token": guest.token, "auth": {"type": "m.login.dummy"}}
    await server.client.post("/register", json=body)
    await alice.put_state(room, ACCESS, {"guest_access": "forbidden"})
    other = await a_guest(server)
    await other.join(room, expect=(403, "M_FORBIDDEN"))
    await asyncio.sleep(0.2)
    assert (await alice.members(room))[guest.user_id] == "join"


async def test_a_guest_comes_in_by_no_other_way(server: Server) -> None:
    """Not by writing the membership as state, nor invited; a guest who is in may change their name so."""
    alice, guest = await server.register("alice"), await a_guest(server)
    room = await alice.create_room(preset="public_chat", invite=[guest.user_id])
    joined = {"membership": "join", "displayname": "Guest"}
    await guest.join(room, expect=(403, "M_FORBIDDEN"))
    await guest.put_state(room, "m.room.member", joined, guest.user_id, expect=(403, "M_FORBIDDEN"))
    assert (await alice.members(room))[guest.user_id] == "invite"
    await alice.put_state(room, ACCESS, {"guest_access": "can_join"})
    for _ in range(2):
        await guest.put_state(room, "m.room.member", joined, guest.user_id)
    assert (await alice.members(room))[guest.user_id] == "join"


async def test_in_two_processes_each_guest_leaves_once(two_servers_processes: Server) -> None:
    alice, _, guest, room = await with_guest(two_servers_processes)
    others = [await a_guest(two_servers_processes) for _ in range(3)]
    for other in others:
        await other.join(room)
    await guest.sync()
    await alice.put_state(room, ACCESS, {"guest_access": "forbidden"})
    await has_left(guest, alice, room)

    async def all_have_left() -> bool:
        members = await alice.members(room)
        return all(members[user.user_id] == "leave" for user in others)

    await until(all_have_left)
    page = await alice.messages(room, limit=100)
    left = [e["state_key"] for e in page["chunk"] if e["content"].get("membership") == "leave"]
    assert sorted(left) == sorted(user.user_id for user in (guest, *others))


# --- beneath HTTP: what no request brings about --------------------------------------------------------------------------


async def make_guest(here: Process, who: Requester) -> None:
    async with here.core.db.transaction() as tx:
        await tx.execute(
            "INSERT INTO accounts (user_nid, created_ms, is_guest) VALUES (%(user)s, 0, true)",
            user=who.user_nid,
        )


async def open_room(here: Process) -> tuple[Requester, Requester, RoomId]:
    """Alice's room with a guest in it."""
    alice, guest = await here.user("alice"), await here.user("guest")
    await make_guest(here, guest)
    return alice, guest, await room_with(here, alice, guest)


async def room_with(here: Process, alice: Requester, guest: Requester) -> RoomId:
    room_id = await here.room(alice, preset="public_chat", room_version="11")
    await here.rooms.sending.put_state(alice, room_id, (ACCESS, ""), {"guest_access": "can_join"})
    await here.rooms.membership.join(guest, room_id)
    return room_id


async def membership(here: Process, who: Requester, room_id: RoomId) -> int:
    return (await here.core.rooms.known(room_id)).membership(who.user_id)


async def test_what_a_server_did_not_come_to_is_done_when_it_starts(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice, guest, room_id = await open_room(here)
        stays = await room_with(here, alice, guest)
        await here.rooms.sending.put_state(alice, room_id, (ACCESS, ""), {"guest_access": "forbidden"})
        assert await membership(here, guest, room_id) == JOIN
    async with process(database, tmp_path) as later:
        await later.rooms.guests.once()
        assert await membership(later, guest, room_id) == LEAVE
        assert await membership(later, guest, stays) == JOIN


async def test_guests_leave_when_resolution_withdraws_their_access(database: str, tmp_path: Path) -> None:
    """The change comes on a branch, and is made current where it meets another."""
    async with process(database, tmp_path) as here:
        alice, guest, room_id = await open_room(here)
        await here.rooms.guests.once()
        fork = await Fork.of(here, room_id)
        left, right = fork.branch(), fork.branch()
        await receive(here, left.says(alice.user_id, "m.room.topic", "", {"topic": "left"}))
        await receive(here, right.says(alice.user_id, ACCESS, "", {"guest_access": "forbidden"}))
        await here.rooms.guests.once()
        assert await membership(here, guest, room_id) == LEAVE


async def test_guests_leave_whom_resolution_brings_back(database: str, tmp_path: Path) -> None:
    """A ban is taken back by resolution after guest access was withdrawn: the join stands again, and ends."""
    async with process(database, tmp_path) as here:
        alice, guest, room_id = await open_room(here)
        mod = await here.user("mod")
        await here.rooms.membership.join(mod, room_id)
        fork = await Fork.of(here, room_id)
        levels = dict(fork.branch().state["m.room.power_levels", ""].content)
        for who in (50, 0):
            content = {**levels, "users": {**levels["users"], mod.user_id: who}}
            if who:
                await here.rooms.sending.put_state(alice, room_id, ("m.room.power_levels", ""), content)
                fork = await Fork.of(here, room_id)
                left, right = fork.branch(), fork.branch()
        demoted = left.says(alice.user_id, "m.room.power_levels", "", content)
        closed = left.says(alice.user_id, ACCESS, "", {"guest_access": "forbidden"})
        ban = right.says(mod.user_id, "m.room.member", guest.user_id, {"membership": "ban"})
        await receive(here, ban)
        assert await membership(here, guest, room_id) == BAN
        await here.rooms.guests.once()
        await receive(here, demoted, closed)
        assert await membership(here, guest, room_id) == JOIN
        await here.rooms.guests.once()
        assert await membership(here, guest, room_id) == LEAVE


async def test_a_room_that_could_not_be_looked_at_is_not_forgotten(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(database, tmp_path) as here:
        alice, guest, room_id = await open_room(here)
        guests, removal = here.rooms.guests, here.rooms.membership.end_guests
        await guests.once()
        guests.wake.clear()

        async def fails(*_: Any) -> None:
            raise OSError("away")

        monkeypatch.setattr(here.rooms.membership, "end_guests", fails)
        await here.rooms.sending.put_state(alice, room_id, (ACCESS, ""), {"guest_access": "forbidden"})
        assert guests.wake.is_set()
        with pytest.raises(OSError, match="away"):
            await guests.once()
        monkeypatch.setattr(here.rooms.membership, "end_guests", removal)
        await guests.once()
        assert await membership(here, guest, room_id) == LEAVE
