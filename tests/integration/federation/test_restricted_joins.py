"""Restricted joins where a server knows that it may not let somebody in itself: another one is asked (FED-23)."""

from __future__ import annotations

from tests.integration.federation.test_handshakes import becomes, is_joined
from tests.support.federation import Federation
from tests.support.remote_members import take_part
from tests.support.remote_server import status


async def test_who_may_not_invite_sends_others_on(federation: Federation) -> None:
    """FED-23: `M_UNABLE_TO_GRANT_JOIN` while nobody here may invite; the same request is granted when somebody may."""
    there, here, remote = await federation.start(), await federation.start(), await federation.remote()
    alice, bob, carol = await there.register("alice"), await here.register("bob"), remote.user("carol")
    space = await alice.create_room(preset="public_chat", room_version="11")
    allow = [{"type": "m.room_membership", "room_id": space}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room = await alice.create_room(room_version="11", initial_state=[rules])
    for each in (space, room):
        await bob.join(each, via=[there.name])
    levels = await alice.state(room, "m.room.power_levels")
    await alice.put_state(room, "m.room.power_levels", {**levels, "invite": 50})
    await becomes(bob, room, "m.room.power_levels", lambda content: content.get("invite") == 50)

    make = f"/_matrix/federation/v1/make_join/{room}/{carol}?ver=11"
    code, answer = await remote.ask(here, "GET", make)
    assert (code, answer["errcode"]) == (403, "M_FORBIDDEN"), "in none of the rooms that count"
    await take_part(here, remote, space, carol)
    code, answer = await remote.ask(here, "GET", make)
    assert (code, answer["errcode"]) == (400, "M_UNABLE_TO_GRANT_JOIN")

    users = {**levels["users"], bob.user_id: 50}
    await alice.put_state(room, "m.room.power_levels", {**levels, "invite": 50, "users": users})
    await becomes(bob, room, "m.room.power_levels", lambda content: content["users"].get(bob.user_id) == 50)
    code, answer = await remote.ask(here, "GET", make)
    assert code == 200, answer
    assert answer["event"]["content"]["join_authorised_via_users_server"] == bob.user_id


async def test_another_server_is_asked_where_one_may_not(federation: Federation) -> None:
    """FED-23: who joins is sent on, also by a server that does not know whether they may."""
    there, here = await federation.start(), await federation.start()
    alice, bob = await there.register("alice"), await here.register("bob")
    room = await alice.create_room(preset="public_chat")
    refusing = []
    for errcode in ("M_UNABLE_TO_GRANT_JOIN", "M_UNABLE_TO_AUTHORISE_JOIN"):
        remote = await federation.remote()
        refusal = status(400, {"errcode": errcode, "error": "ask another server"})
        remote.answers("GET", "/_matrix/federation/v1/make_join/*", refusal)
        refusing.append(remote)
    await bob.join(room, via=[*(remote.name for remote in refusing), there.name])
    assert all(remote.requests("GET", "/_matrix/federation/v1/make_join/*") for remote in refusing)
    await becomes(alice, room, "m.room.member", is_joined, bob.user_id)
