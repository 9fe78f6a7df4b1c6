"""A room's access control list at the handshakes: who is denied neither comes in, nor goes out, nor invites (ACL-02)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.federation import Federation
from tests.support.remote_members import make
from tests.support.remote_room import RemoteRoom
from tests.support.remote_server import RemoteServer
from tests.support.server import Server
from tests.support.user import User

DENY = {"allow": ["*"], "deny": ["localhost"]}
"""The name of every scripted server, whatever its port."""


async def play(federation: Federation, **options: Any) -> tuple[Server, User, RemoteServer, str]:
    """Alice here, in a room of hers, and a scripted server."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    options = {"preset": "public_chat", "room_version": "11", **options}
    return here, alice, remote, await alice.create_room(**options)


async def membership(
    here: Server, remote: RemoteServer, room: str, user: str, what: str, target: str = ""
) -> dict[str, Any]:
    """An event, signed and not sent."""
    event = await make(here, remote, room, user, "m.room.member", {"membership": what}, target or user)
    return {"id": event.event_id, "fields": dict(event.fields)}


async def send(remote: RemoteServer, here: Server, verb: str, room: str, event: dict[str, Any]) -> Any:
    version = "v1" if verb == "knock" else "v2"
    uri = f"/_matrix/federation/{version}/send_{verb}/{room}/{event['id']}"
    return await remote.ask(here, "PUT", uri, event["fields"])


@pytest.mark.parametrize("verb", ["join", "knock", "leave"])
async def test_who_is_denied_neither_comes_nor_goes(federation: Federation, verb: str) -> None:
    """ACL-02: with a template from before, and without one; the same goes through where nothing is denied."""
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "knock" if verb == "knock" else "public"}}
    here, alice, remote, room = await play(federation, initial_state=[rules])
    bob = remote.user("bob")
    if verb == "leave":
        await RemoteRoom.join(here, remote, room, "bob")
    for denied in (True, False):
        await alice.put_state(room, "m.room.server_acl", DENY if denied else {"allow": ["*"]})
        before = (await alice.members(room)).get(bob)
        event = await membership(here, remote, room, bob, verb)
        make_it = f"/_matrix/federation/v1/make_{verb}/{room}/{bob}?ver=11"
        for status, answer in (
            await remote.ask(here, "GET", make_it),
            await send(remote, here, verb, room, event),
        ):
            assert status == (403 if denied else 200), answer
            assert not denied or answer["errcode"] == "M_FORBIDDEN"
        assert ((await alice.members(room)).get(bob) == before) is denied


async def test_who_is_denied_does_not_invite(federation: Federation) -> None:
    """ACL-02: a server that is in the room, and denied since, invites somebody here: that is not signed."""
    here, alice, remote, room = await play(federation)
    carol = await here.register("carol")
    bob = remote.user("bob")
    await RemoteRoom.join(here, remote, room, "bob")
    levels = await alice.state(room, "m.room.power_levels")
    await alice.put_state(room, "m.room.power_levels", {**levels, "invite": 0})
    create = next(e for e in await alice.get("/rooms/{}/state", room) if e["type"] == "m.room.create")
    assert here.app is not None
    persisted = await here.app.core.events.by_id(create["event_id"])
    assert persisted is not None
    shown = [dict(persisted.event.fields)]
    for denied in (True, False):
        await alice.put_state(room, "m.room.server_acl", DENY if denied else {"allow": ["*"]})
        event = await membership(here, remote, room, bob, "invite", carol.user_id)
        body = {"room_version": "11", "event": event["fields"], "invite_room_state": shown}
        uri = f"/_matrix/federation/v2/invite/{room}/{event['id']}"
        status, answer = await remote.ask(here, "PUT", uri, body)
        if denied:
            assert (status, answer["errcode"]) == (403, "M_FORBIDDEN")
        else:
            assert status == 200
            assert here.name in answer["event"]["signatures"]
