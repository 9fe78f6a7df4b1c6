"""What a server says that lets one of ours in, knocks or invites is not believed: nothing of what is false is kept."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from homeserver.events.builder import reference_to
from tests.support.federation import Federation
from tests.support.joinable_room import RemoteRoom, Told
from tests.support.remote_server import RemoteServer, status
from tests.support.server import Server
from tests.support.user import User


async def play(federation: Federation, version: str = "12") -> tuple[Server, User, RemoteServer, RemoteRoom]:
    here, remote = await federation.start(), await federation.remote()
    room = RemoteRoom(remote, version)
    room.members(3)
    room.serves()
    return here, await here.register("anna"), remote, room


async def rooms_of(user: User) -> dict[str, Any]:
    rooms: dict[str, Any] = (await user.sync(since=None)).get("rooms", {})
    return rooms


@pytest.mark.parametrize("version", ["1", "3", "6", "9", "10", "11", "12"])
async def test_an_honest_server_is_believed(federation: Federation, version: str) -> None:
    _, anna, remote, room = await play(federation, version)
    await anna.join(room.name, via=[remote.name])
    assert (await anna.members(room.name))[room.creator] == "join"
    assert [event.sender for event in room.joins] == [anna.user_id]


def without(kind: str) -> Callable[[Told], Told]:
    def change(told: Told) -> Told:
        return {name: [e for e in told[name] if e["type"] != kind] for name in ("state", "auth_chain")}

    return change


def with_more(name: str, event: Any) -> Callable[[Told], Told]:
    return lambda told: {**told, name: [*told[name], event]}


def forged(told: Told) -> Told:
    """The power levels say something else; the signature is that of before."""
    told = copy.deepcopy(told)
    for name in ("state", "auth_chain"):
        for event in told[name]:
            if event["type"] == "m.room.power_levels":
                event["content"] = {"users_default": 100}
    return told


def no_lists(told: Told) -> Any:
    return {"state": {}, "auth_chain": None}


LIES: dict[str, Callable[[Told], Any]] = {
    "no state": lambda told: {**told, "state": []},
    "no create": without("m.room.create"),
    "no join rules, although they let in": without("m.room.join_rules"),
    "no auth chain": lambda told: {
        **told,
        "auth_chain": [],
        "state": [e for e in told["state"] if e["type"] != "m.room.power_levels"],
    },
    "members omitted": lambda told: {**told, "members_omitted": True, "servers_in_room": []},
    "not lists": no_lists,
    "not json": lambda _: b"<html>",
    "an error": lambda _: status(500, {"errcode": "M_UNKNOWN", "error": "oops"}),
}


async def test_a_room_is_asked_for_whole(federation: Federation) -> None:
    """FED-21: partial state may be accepted and is not: members are never asked to be left out, and an answer without them is none
    (`members omitted` below), so there is nothing to be corrected later.
    """
    _, anna, remote, room = await play(federation)
    await anna.join(room.name, via=[remote.name])
    (asked,) = remote.requests("PUT", "/_matrix/federation/v2/send_join/*")
    assert "omit_members" not in asked.query
    members = await anna.members(room.name)
    joined = sum(membership == "join" for membership in members.values())
    assert joined > 1
    assert (await anna.sync())["rooms"]["join"][room.name]["summary"]["m.joined_member_count"] == joined


@pytest.mark.parametrize("lie", LIES)
async def test_nothing_is_kept_of_a_false_answer(federation: Federation, lie: str) -> None:
    here, anna, remote, room = await play(federation)
    room.answer = LIES[lie]
    await anna.join(room.name, via=[remote.name], expect=502)
    assert "join" not in await rooms_of(anna)
    # The same room, told by who does not lie, is joined as if nothing had been.
    room.answer = lambda told: told
    await anna.join(room.name, via=[remote.name])
    assert (await anna.members(room.name))[anna.user_id] == "join"
    assert here.app is not None


async def test_events_of_another_room_or_key_are_refused(federation: Federation) -> None:
    _, anna, remote, room = await play(federation)
    other = RemoteRoom(remote, "12")
    room.answer = with_more("state", json.loads(other.state["m.room.join_rules", ""].pdu))
    await anna.join(room.name, via=[remote.name], expect=502)
    twice = room.draft("m.room.join_rules", {"join_rule": "public", "x": 1}, "")
    room.answer = with_more("state", json.loads(twice.pdu))
    await anna.join(room.name, via=[remote.name], expect=502)
    message = room.draft("m.room.message", {"body": "no state"})
    room.answer = with_more("state", json.loads(message.pdu))
    await anna.join(room.name, via=[remote.name], expect=502)
    assert "join" not in await rooms_of(anna)


async def test_what_has_no_good_signature_or_hash_counts_for_nothing(federation: Federation) -> None:
    _, anna, remote, room = await play(federation)
    liar = await_member = room.state["m.room.member", remote.user("member0")]
    unsigned = json.loads(liar.pdu)
    unsigned["signatures"][remote.name] = dict.fromkeys(unsigned["signatures"][remote.name], "A" * 86)

    def change(told: Told) -> Told:
        told = copy.deepcopy(told)
        for name in ("state", "auth_chain"):
            told[name] = [unsigned if e == json.loads(await_member.pdu) else e for e in told[name]]
        return told

    room.answer = change
    await anna.join(room.name, via=[remote.name])
    assert remote.user("member0") not in await anna.members(room.name)
    assert remote.user("member1") in await anna.members(room.name)


async def test_content_that_does_not_match_its_hash_is_left_out(federation: Federation) -> None:
    _, anna, remote, room = await play(federation, "11")
    named = room.send("m.room.name", {"name": "True"}, "")
    lie = json.loads(named.pdu)
    lie["content"] = {"name": "False"}
    room.answer = lambda told: {
        **told,
        "state": [lie if e["type"] == "m.room.name" else e for e in told["state"]],
    }
    await anna.join(room.name, via=[remote.name])
    assert "name" not in await anna.state(room.name, "m.room.name")


TEMPLATES: dict[str, Callable[[Any], Any]] = {
    "another room": lambda a: {**a, "event": {**a["event"], "room_id": "!other:x"}},
    "another user": lambda a: {**a, "event": {**a["event"], "sender": "@other:x", "state_key": "@other:x"}},
    "another type": lambda a: {**a, "event": {**a["event"], "type": "m.room.create"}},
    "another membership": lambda a: {**a, "event": {**a["event"], "content": {"membership": "ban"}}},
    "unknown version": lambda a: {**a, "room_version": "99"},
    "no event": lambda a: {"room_version": "12"},
    "no depth": lambda a: {**a, "event": {**a["event"], "depth": "1"}},
    "huge depth": lambda a: {**a, "event": {**a["event"], "depth": 2**60}},
    "many prev events": lambda a: {**a, "event": {**a["event"], "prev_events": ["$x"] * 21}},
    "strange auth events": lambda a: {**a, "event": {**a["event"], "auth_events": [{"a": 1}]}},
}


@pytest.mark.parametrize("lie", TEMPLATES)
async def test_a_false_template_is_not_signed(federation: Federation, lie: str) -> None:
    """FED-19"""
    _, anna, remote, room = await play(federation)
    honest = room._make("join")
    remote.answers("GET", "/_matrix/federation/v1/make_join/*", lambda asked: TEMPLATES[lie](honest(asked)))
    await anna.join(room.name, via=[remote.name], expect=502)
    assert room.joins == []


async def test_a_version_that_the_server_wants_but_nobody_knows(federation: Federation) -> None:
    """FED-18"""
    _, anna, remote, room = await play(federation)
    refusal = {"errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": "no", "room_version": "99"}
    remote.answers("GET", "/_matrix/federation/v1/make_join/*", status(400, refusal))
    answer = await anna.post("/join/{}", room.name, json={}, params={"via": [remote.name]}, expect=400)
    assert answer["errcode"] == "M_INCOMPATIBLE_ROOM_VERSION"
    assert answer["room_version"] == "99"


async def test_invites_are_looked_at_before_they_are_signed(federation: Federation) -> None:
    """FED-25"""
    here, anna, remote, room = await play(federation)
    other = await federation.remote()
    uri, body = room.invite(anna.user_id)
    lies = {
        "not an invite": {**body, "event": dict(room.state["m.room.join_rules", ""].fields)},
        "no create": {**body, "invite_room_state": body["invite_room_state"][1:]},
        "stripped only": {**body, "invite_room_state": [{"type": "m.room.create", "state_key": ""}]},
        "no events": {**body, "invite_room_state": ["x"]},
        "another version": {**body, "room_version": "11"},
        "an unknown version": {**body, "room_version": "99"},
        "forged": {
            **body,
            "event": {**body["event"], "signatures": {remote.name: {"ed25519:a_1": "A" * 86}}},
        },
        "other content": {**body, "event": {**body["event"], "origin_server_ts": 1}},
    }
    for lie, said in lies.items():
        code, answer = await remote.ask(here, "PUT", uri, said)
        assert code == 400, (lie, answer)
        wanted = "M_INCOMPATIBLE_ROOM_VERSION" if "unknown" in lie else "M_INVALID_PARAM"
        assert answer["errcode"] == wanted, lie
    code, answer = await other.ask(here, "PUT", uri, body)
    assert (code, answer["errcode"]) == (400, "M_INVALID_PARAM")
    assert "invite" not in await rooms_of(anna)
    code, answer = await remote.ask(here, "PUT", uri, body)
    assert code == 200
    assert here.name in answer["event"]["signatures"]
    assert room.name in (await rooms_of(anna))["invite"]


async def test_only_a_servers_own_users_come_in_through_it(federation: Federation) -> None:
    """FED-18, FED-20"""
    here, anna, remote, _ = await play(federation)
    room = await anna.create_room(preset="public_chat", room_version="11")
    make = f"/_matrix/federation/v1/make_join/{room}"
    code, answer = await remote.ask(here, "GET", f"{make}/@x:elsewhere.example?ver=11")
    assert (code, answer["errcode"]) == (403, "M_FORBIDDEN")
    code, answer = await remote.ask(here, "GET", f"{make}/{remote.user('x')}")
    assert (code, answer["errcode"]) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert answer["room_version"] == "11"
    code, _ = await remote.ask(
        here, "GET", f"/_matrix/federation/v1/make_join/!no:x/{remote.user('x')}?ver=11"
    )
    assert code == 404
    code, template = await remote.ask(here, "GET", f"{make}/{remote.user('x')}?ver=10&ver=11")
    assert code == 200
    event = {k: v for k, v in template["event"].items() if k != "origin"}
    good = join_of(remote, event)
    for change in (
        {"state_key": remote.user("y")},
        {"sender": "@x:elsewhere.example", "state_key": "@x:elsewhere.example"},
        {"type": "m.room.name"},
        {"content": {"membership": "leave"}},
        {"content": {"membership": "join"}, "prev_events": ["$nobody:knows"]},
    ):
        bad = join_of(remote, {**event, **change})
        code, answer = await send_join(remote, here, room, bad)
        assert code == 400, (change, answer)
        assert answer["errcode"] == "M_INVALID_PARAM", change
    code, answer = await remote.ask(
        here, "PUT", f"/_matrix/federation/v2/send_join/{room}/$another", dict(good.fields)
    )
    assert (code, answer["errcode"]) == (400, "M_INVALID_PARAM")
    unsigned = {**good.fields, "signatures": {remote.name: {"ed25519:a_1": "A" * 86}}}
    code, answer = await remote.ask(
        here, "PUT", f"/_matrix/federation/v2/send_join/{room}/{good.event_id}", unsigned
    )
    assert (code, answer["errcode"]) == (400, "M_INVALID_PARAM")
    assert set(await anna.members(room)) == {anna.user_id}
    code, answer = await send_join(remote, here, room, good)
    assert code == 200
    assert {e["type"] for e in answer["state"]} >= {"m.room.create", "m.room.member"}
    assert (await anna.members(room))[remote.user("x")] == "join"
    code, again = await send_join(remote, here, room, good)
    assert code == 200
    assert again["state"] == answer["state"]


def join_of(remote: RemoteServer, event: dict[str, Any], version: str = "11") -> Any:
    return remote.event(
        version,
        event["type"],
        event["content"],
        state_key=event["state_key"],
        sender=event["sender"],
        room_id=event["room_id"],
        prev=event["prev_events"],
        auth=event["auth_events"],
        depth=event["depth"],
    )


async def send_join(
    remote: RemoteServer, here: Server, room: str, event: Any, query: str = ""
) -> tuple[int, Any]:
    uri = f"/_matrix/federation/v2/send_join/{room}/{event.event_id}{query}"
    return await remote.ask(here, "PUT", uri, dict(event.fields))


@pytest.mark.parametrize("version", ["11", "12"])
async def test_the_auth_chain_of_a_join_has_the_create_event(federation: Federation, version: str) -> None:
    """FED-20: Dendrite refuses one without, also of version 12, whose events do not name it."""
    here, anna, remote, _ = await play(federation)
    room = await anna.create_room(preset="public_chat", room_version=version)
    uri = f"/_matrix/federation/v1/make_join/{room}/{remote.user('x')}?ver={version}"
    _, template = await remote.ask(here, "GET", uri)
    code, answer = await send_join(remote, here, room, join_of(remote, template["event"], version))
    assert code == 200
    assert "m.room.create" in {event["type"] for event in answer["auth_chain"]}


async def test_members_are_omitted_on_request(federation: Federation) -> None:
    """FED-20"""
    here, anna, remote, _ = await play(federation)
    room = await anna.create_room(preset="public_chat", room_version="11")
    for number in range(3):
        user = await here.register(f"user{number}")
        await user.join(room)
    uri = f"/_matrix/federation/v1/make_join/{room}/{remote.user('x')}?ver=11"
    _, template = await remote.ask(here, "GET", uri)
    join = join_of(remote, template["event"])
    code, answer = await send_join(remote, here, room, join, "?omit_members=true")
    assert code == 200
    assert answer["members_omitted"] is True
    assert answer["servers_in_room"] == [here.name]
    heroes = [e["state_key"] for e in answer["state"] if e["type"] == "m.room.member"]
    assert anna.user_id in heroes  # the room has no name
    known = {event["type"] for event in answer["auth_chain"]}
    assert known <= {"m.room.member", "m.room.create", "m.room.power_levels", "m.room.join_rules"}


async def test_servers_that_a_room_denies_get_nothing_of_it(federation: Federation) -> None:
    """ACL-02"""
    here, anna, remote, _ = await play(federation)
    room = await anna.create_room(preset="public_chat", room_version="11")
    user, query = remote.user("x"), "?ver=11"
    _, template = await remote.ask(here, "GET", f"/_matrix/federation/v1/make_join/{room}/{user}{query}")
    join = join_of(remote, template["event"])
    await anna.put_state(room, "m.room.server_acl", {"allow": ["*"], "deny": ["localhost"]})
    for verb in ("join", "knock", "leave"):
        uri = f"/_matrix/federation/v1/make_{verb}/{room}/{user}{query}"
        code, answer = await remote.ask(here, "GET", uri)
        assert (code, answer["errcode"]) == (403, "M_FORBIDDEN"), verb
    code, answer = await send_join(remote, here, room, join)
    assert (code, answer["errcode"]) == (403, "M_FORBIDDEN")
    assert set(await anna.members(room)) == {anna.user_id}


@pytest.mark.parametrize("version", ["10", "11", "12"])
@pytest.mark.parametrize("act", ["leave", "ban"])
async def test_who_takes_an_invite_back(federation: Federation, version: str, act: str) -> None:
    """MOD-04: the server that has sent it, and who has power as that server told; naming the invite alone is not enough."""
    here, anna, remote, _ = await play(federation, version)
    elsewhere, third = await federation.remote(), await federation.remote()
    room = RemoteRoom(elsewhere, version)
    inviter, leader, helper = remote.user("inviter"), third.user("leader"), third.user("helper")
    room.member(inviter, "join", by=inviter)
    creators = {} if room.version.privileged_creators else {room.creator: 100}
    power = {"users": {**creators, leader: 60, helper: 40}, "ban": 55}
    levels = room.send("m.room.power_levels", power, "")
    assert here.app is not None
    invited, core = here.app.features.handshakes.invited, here.app.features._core

    async def ends(server: RemoteServer, sender: str, *, told: bool) -> bool:
        """Whether it does. `told`: the power levels came with the invite."""
        invite = remote.event(
            version,
            "m.room.member",
            {"membership": "invite"},
            state_key=anna.user_id,
            sender=inviter,
            room_id=room.room_id,
            origin_server_ts=next(moments),
        )
        shown = [dict(room.state["m.room.create", ""].fields), *([dict(levels.fields)] if told else [])]
        body = {"room_version": version, "event": dict(invite.fields), "invite_room_state": shown}
        uri = f"/_matrix/federation/v2/invite/{room.room_id}/{invite.event_id}"
        code, answer = await remote.ask(here, "PUT", uri, body)
        assert code == 200, answer
        event = server.event(
            version,
            "m.room.member",
            {"membership": act},
            state_key=anna.user_id,
            sender=sender,
            room_id=room.room_id,
            auth=[reference_to(invite)],
            origin_server_ts=next(moments),
        )
        ended = await invited.ended(await core.rooms.known(room.room_id), event)
        assert (room.name in (await rooms_of(anna)).get("invite", {})) is not ended
        return ended

    moments = count(1)
    assert not await ends(third, third.user("stranger"), told=True)
    assert not await ends(third, helper, told=True)
    assert not await ends(third, leader, told=False)
    assert await ends(third, leader, told=True)
    assert await ends(elsewhere, room.creator, told=True)
    assert await ends(elsewhere, room.creator, told=False)
    assert await ends(remote, inviter, told=False)
    assert await ends(remote, remote.user("colleague"), told=False)


async def test_only_who_is_in_the_room_ends_an_invite(federation: Federation) -> None:
    here, anna, remote, room = await play(federation)
    uri, body = room.invite(anna.user_id)
    await remote.ask(here, "PUT", uri, body)
    assert here.app is not None
    handshakes, core = here.app.features.handshakes, here.app.features._core
    stranger = await federation.remote()
    forged = stranger.event(
        "12",
        "m.room.member",
        {"membership": "leave"},
        state_key=anna.user_id,
        room_id=room.room_id,
        prev=[],
        auth=[],
    )
    there = await core.rooms.known(room.room_id)
    assert not await handshakes.invited.ended(there, forged)
    assert room.name in (await rooms_of(anna))["invite"]
    taken_back = room.member(anna.user_id, "leave", by=room.creator)
    assert await handshakes.invited.ended(there, taken_back)
    assert room.name not in (await rooms_of(anna)).get("invite", {})
