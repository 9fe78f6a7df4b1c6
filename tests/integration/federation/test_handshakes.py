"""Users come into rooms of other servers, and leave them: two Atriums, over TLS (FED-18 to FED-28, JOIN-01 to JOIN-04)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from federation.handshakes import entering
from federation.handshakes.asking import Residency
from federation.handshakes.templates import Template, Wish
from federation.ports import RemoteError
from homeserver.matrix.ids import ServerName
from tests.support.federation import Federation
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

VERSIONS = ["6", "7", "8", "9", "10", "11", "12"]


async def two(federation: Federation) -> tuple[Server, User, Server, User]:
    """Alice on one server, Bob on another."""
    here, there = await federation.start(), await federation.start()
    return here, await here.register("alice"), there, await there.register("bob")


def invited(answer: dict[str, Any], room: str) -> list[dict[str, Any]] | None:
    section = answer.get("rooms", {}).get("invite", {}).get(room)
    return section["invite_state"]["events"] if section else None


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_public_room_is_joined(federation: Federation, version: str) -> None:
    here, alice, _there, bob = await two(federation)
    room = await alice.create_room(preset="public_chat", room_version=version, name="Everybody")
    await alice.send(room, "before")
    await bob.join(room, via=[here.name])
    assert await bob.members(room) == {alice.user_id: "join", bob.user_id: "join"}
    assert (await alice.members(room))[bob.user_id] == "join"
    assert (await bob.state(room, "m.room.name"))["name"] == "Everybody"
    news = await bob.sync()
    assert {event["type"] for event in news["rooms"]["join"][room]["state"]["events"]} >= {"m.room.create"}
    await bob.join(room, via=[here.name])
    await bob.send(room, "hello")


@pytest.mark.parametrize("version", ["6", "11", "12"])
async def test_an_invite_is_taken(federation: Federation, version: str) -> None:
    _here, alice, _there, bob = await two(federation)
    room = await alice.create_room(name="Few", room_version=version)
    await alice.invite(room, bob)
    assert (await alice.members(room))[bob.user_id] == "invite"
    told = invited(await bob.sync(), room)
    assert told is not None
    assert {event["type"] for event in told} >= {"m.room.create", "m.room.name", "m.room.member"}
    await bob.join(room)
    assert (await alice.members(room))[bob.user_id] == "join"
    assert (await bob.members(room))[alice.user_id] == "join"
    for since in (bob.since, None):
        timeline = (await bob.sync(since=since))["rooms"]["join"][room]["timeline"]["events"]
        [join] = [each for each in timeline if each.get("state_key") == bob.user_id]
        assert join["unsigned"]["prev_content"]["membership"] == "invite"
        assert join["unsigned"]["prev_sender"] == alice.user_id


@pytest.mark.parametrize("version", ["6", "12"])
async def test_an_invite_is_turned_down(federation: Federation, version: str) -> None:
    _here, alice, _there, bob = await two(federation)
    room = await alice.create_room(invite=[bob.user_id], room_version=version)
    since = (await bob.sync())["next_batch"]
    assert (await alice.members(room))[bob.user_id] == "invite"
    await bob.leave(room)
    assert (await alice.members(room))[bob.user_id] == "leave"
    news = await bob.sync(since=since)
    assert room in news["rooms"]["leave"]
    assert invited(await bob.sync(since=None), room) is None
    await alice.invite(room, bob)
    assert invited(await bob.sync(since=news["next_batch"]), room)


async def test_an_invite_is_turned_down_while_the_other_server_is_dead(federation: Federation) -> None:
    """FED-28"""
    there, remote = await federation.start(), await federation.remote()
    bob = await there.register("bob")
    room = await scripted_invite(remote, there, bob)
    remote.away = True
    await bob.leave(room)
    assert invited(await bob.sync(since=None), room) is None


async def scripted_invite(remote: Any, there: Server, bob: User) -> str:
    """An invite of a scripted server's user. The room."""
    create = remote.event("12", "m.room.create", {"room_version": "12"}, state_key="", room_id=None)
    room = create.room_id
    event = remote.event(
        "12",
        "m.room.member",
        {"membership": "invite"},
        state_key=bob.user_id,
        room_id=room,
        prev=[create.event_id],
        auth=[],
        depth=2,
    )
    uri = f"/_matrix/federation/v2/invite/{room}/{event.event_id}"
    body = {
        "room_version": "12",
        "event": dict(event.fields),
        "invite_room_state": [dict(create.fields)],
    }
    status, answer = await remote.ask(there, "PUT", uri, body)
    assert status == 200, answer
    assert there.name in answer["event"]["signatures"]
    return str(room)


async def test_a_knock_is_answered(federation: Federation) -> None:
    here, alice, _there, bob = await two(federation)
    room = await alice.create_room(
        room_version="10",
        name="Closed",
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}],
    )
    await bob.post("/knock/{}", room, json={"reason": "please"}, params={"via": [here.name]})
    assert (await alice.members(room))[bob.user_id] == "knock"
    section = (await bob.sync())["rooms"]["knock"][room]["knock_state"]["events"]
    assert {event["type"] for event in section} >= {"m.room.create", "m.room.name", "m.room.member"}
    await alice.invite(room, bob)
    assert invited(await bob.sync(), room)
    await bob.join(room)
    assert (await alice.members(room))[bob.user_id] == "join"


async def test_a_knock_is_taken_back(federation: Federation) -> None:
    here, alice, _there, bob = await two(federation)
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room = await alice.create_room(room_version="12", initial_state=rules)
    await bob.post("/knock/{}", room, json={}, params={"server_name": [here.name]})
    await bob.leave(room)
    assert (await alice.members(room))[bob.user_id] == "leave"
    assert room not in (await bob.sync(since=None)).get("rooms", {}).get("knock", {})


async def test_a_restricted_room_is_joined_by_who_is_in_the_other(federation: Federation) -> None:
    """JOIN-02, FED-23"""
    here, alice, there, bob = await two(federation)
    carol = await there.register("carol")
    space = await alice.create_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": space}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room = await alice.create_room(initial_state=[rules])
    await bob.join(room, via=[here.name], expect=(403, "M_FORBIDDEN"))
    await bob.join(space, via=[here.name])
    await bob.join(room, via=[here.name])
    assert (await alice.members(room))[bob.user_id] == "join"
    member = await bob.state(room, "m.room.member", bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    # Nobody of the second server may invite: the first one is asked, although the room is here (JOIN-01).
    await alice.put_state(room, "m.room.power_levels", {"invite": 50})
    await becomes(bob, room, "m.room.power_levels", lambda content: content["invite"] == 50)
    await carol.join(space)
    await becomes(alice, space, "m.room.member", is_joined, carol.user_id)
    await carol.join(room)
    member = await carol.state(room, "m.room.member", carol.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    await becomes(alice, room, "m.room.member", is_joined, carol.user_id)
    await becomes(bob, room, "m.room.member", is_joined, carol.user_id)


async def test_who_has_just_come_into_the_room_that_lets_in_is_let_in(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JOIN-01: the server that vouches has not heard of it when it is asked first."""
    monkeypatch.setattr(entering, "PATIENCE", (0.01, 0.01))
    here, alice, there, bob = await two(federation)
    space = await alice.create_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": space}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room = await alice.create_room(initial_state=[rules])
    for each in (space, room):
        await bob.join(each, via=[here.name])
    await alice.put_state(room, "m.room.power_levels", {"invite": 50})
    await becomes(bob, room, "m.room.power_levels", lambda content: content["invite"] == 50)
    carol = await there.register("carol")
    await carol.join(space)
    await becomes(alice, space, "m.room.member", is_joined, carol.user_id)
    refusals: list[str] = []
    template = Residency.template

    async def unheard(self: Residency, server: ServerName, wish: Wish) -> Template:
        if len(refusals) < 2:
            refusals.append(server)
            raise RemoteError(server, 403, "M_FORBIDDEN", "not in the space")
        return await template(self, server, wish)

    monkeypatch.setattr(Residency, "template", unheard)
    await carol.join(room)
    assert refusals == [here.name, here.name]
    await becomes(alice, room, "m.room.member", is_joined, carol.user_id)


def is_joined(content: dict[str, Any]) -> bool:
    return bool(content["membership"] == "join")


async def becomes(
    user: User, room: str, kind: str, right: Callable[[dict[str, Any]], bool], key: str = ""
) -> None:
    """The state is told to other servers after who has set it has got an answer."""
    for _ in range(1_200):
        answer = await user.exchange("GET", "/rooms/{}/state/{}/{}", room, kind, key, expect=None)
        if answer.status == 200 and right(answer.json):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{kind} {key} did not become what it should")


async def gone(user: User, room: str, section: str) -> dict[str, Any]:
    """What tells that the room is in a section no more."""
    since = None
    for _ in range(1_200):
        answer = await user.sync(since=since)
        rooms = answer.get("rooms", {})
        if room in rooms.get("leave", {}) or (since is None and room not in rooms.get(section, {})):
            return dict(rooms)
        since = answer["next_batch"]
        await asyncio.sleep(0.05)
    raise AssertionError(f"the room is still in {section}")


@pytest.mark.parametrize("end", ["kick", "ban"])
async def test_an_invite_that_is_taken_back_is_gone(federation: Federation, end: str) -> None:
    _here, alice, _there, bob = await two(federation)
    room = await alice.create_room(invite=[bob.user_id])
    assert invited(await bob.sync(since=None), room)
    await (alice.kick(room, bob) if end == "kick" else alice.ban(room, bob))
    await gone(bob, room, "invite")
    assert invited(await bob.sync(since=None), room) is None


async def test_a_knock_that_is_denied_is_gone(federation: Federation) -> None:
    """JOIN-04"""
    here, alice, _there, bob = await two(federation)
    rules = [{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    room = await alice.create_room(room_version="11", initial_state=rules)
    await bob.post("/knock/{}", room, json={}, params={"via": [here.name]})
    assert room in (await bob.sync(since=None))["rooms"]["knock"]
    await alice.kick(room, bob, reason="no")
    await gone(bob, room, "knock")


async def test_messages_go_both_ways_after_a_join(federation: Federation) -> None:
    here, alice, _there, bob = await two(federation)
    room = await alice.create_room(preset="public_chat")
    await bob.join(room, via=[here.name])
    await bob.send(room, "from there")
    await alice.sees(room, "from there")
    await alice.send(room, "from here")
    await bob.sees(room, "from here")
    await bob.leave(room)
    await becomes(alice, room, "m.room.member", lambda content: content["membership"] == "leave", bob.user_id)
    await alice.send(room, "while he was away")
    await bob.join(room)
    await bob.send(room, "again")
    await alice.sees(room, "again")


async def test_a_third_server_is_told_of_who_comes(federation: Federation) -> None:
    here, alice, _there, bob = await two(federation)
    third = await federation.start()
    carol = await third.register("carol")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room, via=[here.name])
    await carol.join(room, via=[here.name])
    await becomes(bob, room, "m.room.member", is_joined, carol.user_id)


async def test_who_is_banned_is_not_let_in(federation: Federation) -> None:
    here, alice, _there, bob = await two(federation)
    room = await alice.create_room(preset="public_chat")
    await alice.ban(room, bob)
    await bob.join(room, via=[here.name], expect=(403, "M_FORBIDDEN"))
    assert room not in (await bob.sync()).get("rooms", {}).get("join", {})


async def test_what_no_server_knows_is_not_found(federation: Federation) -> None:
    here, _alice, _there, bob = await two(federation)
    await bob.join("!nothing:" + here.name, via=[here.name], expect=(404, "M_NOT_FOUND"))
    await bob.join("!nothing", expect=(404, "M_NOT_FOUND"))


async def test_a_join_twice_at_once_is_one(federation: Federation) -> None:
    here, alice, there, bob = await two(federation)
    carol = await there.register("carol")
    room = await alice.create_room(preset="public_chat")
    await asyncio.gather(*(user.join(room, via=[here.name]) for user in (bob, carol) * 3))
    everybody = {alice.user_id, bob.user_id, carol.user_id}
    assert set(await bob.members(room)) == everybody

    async def told() -> bool:
        return set(await alice.members(room)) == everybody

    await until(told, within=60)  # who came second came in over there
    joins = [e for e in (await bob.messages(room))["chunk"] if e.get("state_key") == bob.user_id]
    assert len(joins) == 1


async def test_other_servers_are_tried(federation: Federation) -> None:
    here, alice, _there, bob = await two(federation)
    dead, refusing = await federation.remote(), await federation.remote()
    dead.away = True
    room = await alice.create_room(preset="public_chat")
    await bob.join(room, via=[dead.name, refusing.name, here.name])
    assert (await alice.members(room))[bob.user_id] == "join"


async def test_the_other_servers_refusal_is_told(federation: Federation) -> None:
    """FED-27, MOD-04"""
    _here, alice, there, bob = await two(federation)
    room = await alice.create_room()
    await bob.put(
        "/user/{}/account_data/{}",
        bob.user_id,
        "m.invite_permission_config",
        json={"default_action": "block"},
    )
    await alice.invite(room, bob, expect=(403, "M_INVITE_BLOCKED"))
    await alice.invite(room, f"@nobody:{there.name}", expect=(403, "M_FORBIDDEN"))
    assert bob.user_id not in await alice.members(room)
    gone = await federation.remote()
    gone.away = True
    await alice.invite(room, gone.user("x"), expect=502)
    status = await alice.put(
        "/rooms/{}/state/{}/{}", room, "m.room.member", bob.user_id, json={"membership": "invite"}, expect=403
    )
    assert status["errcode"] == "M_INVITE_BLOCKED"


async def test_leaving_and_joining_again(federation: Federation) -> None:
    here, alice, _there, bob = await two(federation)
    room = await alice.create_room(preset="public_chat", name="First")
    await bob.join(room, via=[here.name])
    await bob.leave(room)
    since = (await bob.sync())["next_batch"]
    await becomes(alice, room, "m.room.member", lambda content: content["membership"] == "leave", bob.user_id)
    await alice.put_state(room, "m.room.name", {"name": "Second"})
    await bob.join(room)
    assert (await bob.state(room, "m.room.name"))["name"] == "Second"
    news = (await bob.sync(since=since))["rooms"]["join"][room]
    assert news["timeline"]["limited"] is True


async def test_sliding_sync_shows_the_invite(federation: Federation) -> None:
    _here, alice, _there, bob = await two(federation)
    room = await alice.create_room(name="Sliding")
    await alice.invite(room, bob)
    body = {"lists": {"all": {"ranges": [[0, 10]], "timeline_limit": 1, "required_state": []}}}
    answer = await bob.post("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", json=body)
    assert answer["rooms"][room]["name"] == "Sliding"
    assert answer["rooms"][room]["invite_state"]
