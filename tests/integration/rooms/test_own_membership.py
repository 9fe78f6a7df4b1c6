"""A user's own membership follows the profile, and ends with the account: CHECKLIST USER-03, USER-04, AUTH-29."""

from typing import Any

from tests.support.server import PASSWORD, Server
from tests.support.user import User

NAME, PICTURE = "/profile/{}/displayname", "/profile/{}/avatar_url"


async def own(user: User, room: str) -> dict[str, Any]:
    return dict(await user.state(room, "m.room.member", user.user_id))


async def rename(user: User, name: str | None) -> None:
    await user.put(NAME, user.user_id, json={"displayname": name})


async def test_a_new_name_stands_in_every_joined_room_when_the_answer_comes(server: Server) -> None:
    """USER-03."""
    alice = await server.register("alice")
    rooms = [await alice.create_room() for _ in range(5)]
    await rename(alice, "Alice")
    for room in rooms:
        assert await own(alice, room) == {"membership": "join", "displayname": "Alice"}
    await alice.put(PICTURE, alice.user_id, json={"avatar_url": "mxc://localhost/abc"})
    for room in rooms:
        assert (await own(alice, room))["avatar_url"] == "mxc://localhost/abc"
    await rename(alice, None)
    assert await own(alice, rooms[0]) == {"membership": "join", "avatar_url": "mxc://localhost/abc"}


async def test_others_see_the_change_as_a_join_event(server: Server) -> None:
    """USER-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await bob.sync()
    await rename(alice, "Alice in Wonderland")
    event = await bob.sees(
        room,
        lambda e: e["type"] == "m.room.member" and e["content"].get("displayname") == "Alice in Wonderland",
    )
    assert event["content"]["membership"] == "join"
    assert event["state_key"] == event["sender"] == alice.user_id


async def test_whoever_joins_brings_the_present_name_along(server: Server) -> None:
    """USER-04."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await rename(bob, "Bob the Builder")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    assert await own(bob, room) == {"membership": "join", "displayname": "Bob the Builder"}


async def test_setting_what_is_set_already_sends_nothing(server: Server) -> None:
    """USER-03."""
    alice = await server.register("alice")
    room = await alice.create_room()
    await rename(alice, "Alice")
    await alice.sync()
    await rename(alice, "Alice")
    await alice.put("/profile/{}/m.tz", alice.user_id, json={"m.tz": "UTC"})
    assert room not in (await alice.sync()).get("rooms", {}).get("join", {})


async def test_rooms_that_were_left_are_left_alone(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await bob.leave(room)
    await rename(bob, "Bob")
    assert await alice.state(room, "m.room.member", bob.user_id) == {"membership": "leave"}


async def test_who_authorised_the_join_is_not_copied(server: Server) -> None:
    """USER-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    club = await alice.create_room(preset="public_chat")
    await bob.join(club)
    rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club}]}
    room = await alice.create_room(
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": rule}]
    )
    await bob.join(room)
    assert (await own(bob, room))["join_authorised_via_users_server"] == alice.user_id
    await rename(bob, "Bob")
    assert await own(bob, room) == {"membership": "join", "displayname": "Bob"}


async def test_an_ended_account_leaves_its_rooms_and_turns_invites_down(server: Server) -> None:
    """AUTH-29."""
    alice, bob = await server.register("alice"), await server.register("bob")
    joined = await alice.create_room(preset="public_chat")
    await bob.join(joined)
    invited = await alice.create_room()
    await alice.invite(invited, bob)
    banned = await alice.create_room()
    await alice.ban(banned, bob)
    auth = {"type": "m.login.password", "user": bob.user_id, "password": PASSWORD}
    await bob.post("/account/deactivate", json={"auth": auth})
    for room in (joined, invited):
        assert await alice.state(room, "m.room.member", bob.user_id) == {"membership": "leave"}
    assert (await alice.state(banned, "m.room.member", bob.user_id))["membership"] == "ban"


async def test_a_name_set_at_one_process_is_seen_at_the_other(two_servers_processes: Server) -> None:
    """USER-03: whichever process takes the request up."""
    alice = await two_servers_processes.register("alice")
    rooms = [await alice.create_room() for _ in range(3)]
    for number in range(10):
        await rename(alice, f"Alice {number}")
        for room in rooms:
            assert (await own(alice, room))["displayname"] == f"Alice {number}"


async def test_an_invite_shows_who_is_invited(server: Server) -> None:
    """Else a direct chat is called @bob:example.org until Bob has joined. What others claim to be called counts for nothing."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Bob"})
    await bob.put("/profile/{}/avatar_url", bob.user_id, json={"avatar_url": "mxc://localhost/bob"})
    shown = {"membership": "invite", "displayname": "Bob", "avatar_url": "mxc://localhost/bob"}
    made = await alice.create_room(invite=[bob.user_id, "@carol:localhost:1"], is_direct=True)
    assert await alice.state(made, "m.room.member", bob.user_id) == {**shown, "is_direct": True}
    # Whose server does not answer cannot be invited; the room is there all the same (ROOM-05).
    await alice.state(made, "m.room.member", "@carol:localhost:1", expect=404)
    later = await alice.create_room()
    await alice.invite(later, bob, reason="tea")
    assert await alice.state(later, "m.room.member", bob.user_id) == {**shown, "reason": "tea"}
    nobody = f"@nobody:{alice.server_name}"
    await alice.invite(later, nobody)
    assert await alice.state(later, "m.room.member", nobody) == {"membership": "invite"}
