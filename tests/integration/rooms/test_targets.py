"""Whom an act of membership names: a user ID, or the act is refused before anything is written."""

import pytest

from tests.support.server import Server

NOBODY = ["bob", "", "@bob", "@bob:", "@b\0b:localhost", "!bob:localhost", "@" + "b" * 255 + ":localhost"]


@pytest.mark.parametrize("whom", NOBODY)
@pytest.mark.parametrize("verb", ["invite", "kick", "ban", "unban"])
async def test_an_act_that_names_no_user_is_refused(server: Server, verb: str, whom: str) -> None:
    """API-03: a wrong value is M_INVALID_PARAM; the room gets no membership that no client could read."""
    alice = await server.register("alice")
    room = await alice.create_room()
    await alice.post("/rooms/{}/" + verb, room, json={"user_id": whom}, expect=(400, "M_INVALID_PARAM"))
    assert set(await alice.members(room)) == {alice.user_id}


async def test_a_membership_of_no_user_cannot_be_set_as_state(server: Server) -> None:
    """The same act by another way."""
    alice = await server.register("alice")
    room = await alice.create_room()
    await alice.put_state(room, "m.room.member", {"membership": "invite"}, "bob", expect=(400, "M_BAD_JSON"))
    await alice.create_room(
        initial_state=[{"type": "m.room.member", "state_key": "bob", "content": {"membership": "ban"}}],
        expect=(400, "M_BAD_JSON"),
    )


async def test_an_invite_names_a_user_or_an_address(server: Server) -> None:
    """API-03: a body with neither lacks something; one with an address is understood, and refused: none is trusted."""
    alice = await server.register("alice")
    room = await alice.create_room()
    await alice.post("/rooms/{}/invite", room, json={}, expect=(400, "M_MISSING_PARAM"))
    address = {"medium": "email", "address": "bob@example.org", "id_server": "id.example.org"}
    await alice.post(
        "/rooms/{}/invite",
        room,
        json={**address, "id_access_token": "abc"},
        expect=(400, "M_SERVER_NOT_TRUSTED"),
    )


async def test_whoever_wants_no_invites_gets_none_by_any_way(server: Server) -> None:
    """ROOM-05: also where the invite is written as state; a refused room is not made."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    blocked = (403, "M_INVITE_BLOCKED")
    path = "/user/{}/account_data/m.invite_permission_config"
    invite = {"type": "m.room.member", "state_key": bob.user_id, "content": {"membership": "invite"}}
    await bob.put(path, bob.user_id, json={"default_action": "block"})
    await alice.invite(room, bob, expect=blocked)
    await alice.put_state(room, "m.room.member", {"membership": "invite"}, bob.user_id, expect=blocked)
    await alice.create_room(invite=[bob.user_id], expect=blocked)
    await alice.create_room(initial_state=[invite], expect=blocked)
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == [room]
    await alice.ban(room, bob)
    await bob.put(path, bob.user_id, json={"default_action": "allow"})
    await alice.create_room(initial_state=[invite])
