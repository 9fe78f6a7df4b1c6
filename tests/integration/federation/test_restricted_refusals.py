"""Restricted rooms of others: what a server says that cannot tell, or may not let in, and who is asked then (FED-23, JOIN-01)."""

from typing import Any

import pytest

from federation.handshakes.asking import JoinAnswer, Residency
from federation.handshakes.templates import Template, Wish
from federation.ports import RemoteError
from homeserver.events.event import Event
from homeserver.matrix.ids import ServerName
from tests.integration.federation.test_handshakes import two
from tests.integration.federation.test_hostile_handshakes import join_of, send_join
from tests.support.federation import Federation
from tests.support.remote_room import RemoteRoom
from tests.support.remote_server import RemoteServer, status
from tests.support.server import Server
from tests.support.user import User

MAKE = "/_matrix/federation/v1/make_join/*"
AUTHORISE, GRANT = "M_UNABLE_TO_AUTHORISE_JOIN", "M_UNABLE_TO_GRANT_JOIN"
ELSEWHERE = "!club:elsewhere.example"
VERSIONS = ["8", "11", "12"]


async def restricted(user: User, *allowed: str, version: str = "11", rule: str = "restricted") -> str:
    """A room that who is in one of these may join."""
    allow = [{"type": "m.room_membership", "room_id": each} for each in allowed]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": rule, "allow": allow}}
    return await user.create_room(initial_state=[rules], room_version=version)


async def club(federation: Federation) -> tuple[Server, User, RemoteServer, RemoteRoom]:
    """Alice, another server, and a room of hers that Bob of the other server is in."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    return (
        here,
        alice,
        remote,
        await RemoteRoom.join(here, remote, await alice.create_room(preset="public_chat"), "bob"),
    )


async def make_join(remote: RemoteServer, here: Server, room: str, version: str) -> tuple[int, Any]:
    uri = f"/_matrix/federation/v1/make_join/{room}/{remote.user('bob')}?ver={version}"
    return await remote.ask(here, "GET", uri)


@pytest.mark.parametrize("version", VERSIONS)
async def test_fed_23_who_cannot_tell_says_so(federation: Federation, version: str) -> None:
    """This server is in none of the rooms that count, or in one that Bob is not in, beside one that it does not know."""
    here, alice, remote, _ = await club(federation)
    other = await alice.create_room()
    for allowed in ([ELSEWHERE], [other, ELSEWHERE], [ELSEWHERE, other]):
        room = await restricted(alice, *allowed, version=version)
        code, answer = await make_join(remote, here, room, version)
        assert (code, answer["errcode"]) == (400, AUTHORISE)


async def test_fed_23_who_can_tell_lets_in_or_refuses(federation: Federation) -> None:
    """JOIN-02: one room that Bob is in is enough, whatever is not known of others."""
    here, alice, remote, space = await club(federation)
    room = await restricted(alice, ELSEWHERE, space.room_id)
    code, template = await make_join(remote, here, room, "11")
    assert code == 200
    assert template["event"]["content"]["join_authorised_via_users_server"] == alice.user_id
    room = await restricted(alice, await alice.create_room())
    code, answer = await make_join(remote, here, room, "11")
    assert (code, answer["errcode"]) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(("version", "rule"), [("8", "restricted"), ("12", "knock_restricted")])
async def test_fed_23_who_may_not_let_in_says_so(federation: Federation, version: str, rule: str) -> None:
    """Of this server Dan is left in the room, who may not invite: in the template, and when the join comes later."""
    here, alice, remote, space = await club(federation)
    dan = await here.register("dan")
    room = await restricted(alice, space.room_id, version=version, rule=rule)
    await alice.invite(room, dan)
    await dan.join(room)
    await alice.put_state(room, "m.room.power_levels", await _levels(alice, room, invite=50))
    code, template = await make_join(remote, here, room, version)
    assert code == 200
    join = join_of(remote, template["event"], version)
    await alice.leave(room)
    code, answer = await make_join(remote, here, room, version)
    assert (code, answer["errcode"]) == (400, GRANT)
    code, answer = await send_join(remote, here, room, join)
    assert (code, answer["errcode"]) == (400, GRANT)
    assert remote.user("bob") not in await dan.members(room)


async def _levels(user: User, room: str, **changes: int) -> dict[str, Any]:
    return {**await user.state(room, "m.room.power_levels"), **changes}


async def test_fed_23_who_has_left_what_lets_in_is_refused_at_the_end(federation: Federation) -> None:
    """The template was given while Bob was in it."""
    here, alice, remote, space = await club(federation)
    room = await restricted(alice, space.room_id)
    _, template = await make_join(remote, here, room, "11")
    leave = space.says("bob", "m.room.member", {"membership": "leave"}, state_key=remote.user("bob"))
    await space.send(leave)
    await space.arrives(leave)
    code, answer = await send_join(remote, here, room, join_of(remote, template["event"]))
    assert (code, answer["errcode"]) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("errcode", [AUTHORISE, GRANT])
async def test_fed_23_another_server_is_asked(federation: Federation, errcode: str) -> None:
    """JOIN-01: the first one that the client names cannot tell or may not; the next one lets the user in."""
    here, alice, _, bob = await two(federation)
    remote = await federation.remote()
    remote.answers("GET", MAKE, status(400, {"errcode": errcode, "error": "not by me"}))
    space = await alice.create_room(preset="public_chat")
    room = await restricted(alice, space)
    await bob.join(space, via=[here.name])
    await bob.join(room, via=[remote.name, here.name])
    assert len(remote.requests("GET", MAKE)) == 1
    assert (await alice.members(room))[bob.user_id] == "join"


@pytest.mark.parametrize("errcode", [AUTHORISE, GRANT])
async def test_fed_23_another_server_is_asked_when_the_join_is_refused(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, errcode: str
) -> None:
    """JOIN-01: it was given a template, and something has changed until the join was sent."""
    here, alice, _, bob = await two(federation)
    remote = await federation.remote()
    space = await alice.create_room(preset="public_chat")
    room = await restricted(alice, space)
    await bob.join(space, via=[here.name])
    template, sent, refused = Residency.template, Residency.send_join, []

    async def prepared(self: Residency, server: ServerName, wish: Wish) -> Template:
        return await template(self, ServerName(here.name) if server == remote.name else server, wish)

    async def refusing(self: Residency, server: ServerName, event: Event) -> JoinAnswer:
        if server == remote.name:
            refused.append(server)
            raise RemoteError(server, 400, errcode, "not by me")
        return await sent(self, server, event)

    monkeypatch.setattr(Residency, "template", prepared)
    monkeypatch.setattr(Residency, "send_join", refusing)
    await bob.join(room, via=[remote.name, here.name])
    assert refused == [remote.name]
    assert (await alice.members(room))[bob.user_id] == "join"


@pytest.mark.parametrize("errcode", [AUTHORISE, GRANT])
async def test_fed_23_what_the_client_is_told(federation: Federation, errcode: str) -> None:
    """Where nobody lets them in: 403 with the words of the server; rather of one that can tell than of one that cannot."""
    here, alice, _, bob = await two(federation)
    remote = await federation.remote()
    remote.answers("GET", MAKE, status(400, {"errcode": errcode, "error": "not by me"}))
    answer = await bob.join("!some:elsewhere.example", via=[remote.name], expect=403)
    assert answer["errcode"] == "M_FORBIDDEN"
    assert "not by me" in answer["error"]
    room = await restricted(alice, await alice.create_room())
    for via in ([remote.name, here.name], [here.name, remote.name]):
        answer = await bob.join(room, via=via, expect=403)
        assert answer["errcode"] == "M_FORBIDDEN"
        assert "You are in none of the rooms" in answer["error"]


async def test_fed_23_a_server_that_does_not_answer_is_not_the_reason(federation: Federation) -> None:
    """Who cannot tell has answered, at least."""
    _, _, _, bob = await two(federation)
    remote, down = await federation.remote(), await federation.remote()
    await down.stop()
    remote.answers("GET", MAKE, status(400, {"errcode": AUTHORISE, "error": "not by me"}))
    for via in ([remote.name, down.name], [down.name, remote.name]):
        answer = await bob.join("!some:elsewhere.example", via=via, expect=403)
        assert "not by me" in answer["error"]
