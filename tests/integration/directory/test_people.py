"""Searching for people; networks of bridges; passwords for calls."""

import base64
import hashlib
import hmac
from typing import Any

import pytest

from tests.support.server import PASSWORD, Server
from tests.support.user import User

TURN = {
    "uris": ["turn:turn.example.com?transport=udp"],
    "shared_secret": "s",
    "lifetime": "1h",
    "guests": False,
}


async def found(user: User, term: str, **more: Any) -> list[str]:
    reply = await user.post("/user_directory/search", json={"search_term": term, **more})
    return [one["user_id"] for one in reply["results"]]


async def rename(user: User, name: str) -> None:
    await user.put("/profile/{}/displayname", user.user_id, json={"displayname": name})


async def test_people_are_found_by_name_and_id_whatever_the_case(fresh_server: Server) -> None:
    alice = await fresh_server.register_exactly("alice")
    bob = await fresh_server.register_exactly("bob")
    await rename(bob, 'Robert "Bobby" Größe')
    await bob.put("/profile/{}/avatar_url", bob.user_id, json={"avatar_url": "mxc://localhost/abc"})
    await bob.put("/profile/{}/m.tz", bob.user_id, json={"m.tz": "Europe/Berlin"})
    for term in ("bob", "BOB", "@bob:localhost", "größe", "robert", '"bobby"'):
        assert await found(alice, term) == [bob.user_id], term
    for term in ("berlin", "localhost", "mxc", "displayname", "%", "_", "\\", "", "nobody"):
        assert await found(alice, term) == [], term
    reply = await alice.post("/user_directory/search", json={"search_term": "bob"})
    assert reply == {
        "results": [
            {
                "user_id": bob.user_id,
                "display_name": 'Robert "Bobby" Größe',
                "avatar_url": "mxc://localhost/abc",
            }
        ],
        "limited": False,
    }
    auth = {"type": "m.login.password", "user": bob.user_id, "password": PASSWORD}
    await bob.post("/account/deactivate", json={"auth": auth})
    assert await found(alice, "bob") == []


async def test_more_people_than_asked_for_are_said_to_be_there(fresh_server: Server) -> None:
    alice = await fresh_server.register_exactly("alice")
    for number in range(4):
        await fresh_server.register_exactly(f"bob{number}")
    reply = await alice.post("/user_directory/search", json={"search_term": "bob", "limit": 3})
    assert (len(reply["results"]), reply["limited"]) == (3, True)
    reply = await alice.post("/user_directory/search", json={"search_term": "bob", "limit": 4})
    assert (len(reply["results"]), reply["limited"]) == (4, False)


@pytest.mark.parametrize(
    ("whom", "expected"), [("everybody", "abcd"), ("shared_rooms", "abc"), ("nobody", "")]
)
async def test_whom_one_finds_is_the_administrators_choice(
    start_server: Any, whom: str, expected: str
) -> None:
    """Who shares a room, and who is in a published one; or everybody; or nobody."""
    server = await start_server(rooms={"directory": {"user_search": whom}})
    people = [await server.register_exactly(f"person.{letter}") for letter in "abcd"]
    alice, bob, carol, dora = people
    private = await bob.create_room(invite=[alice.user_id])
    await alice.join(private)
    await carol.create_room(visibility="public")
    await dora.create_room()
    assert sorted(await found(alice, "person")) == [f"@person.{letter}:localhost" for letter in expected]


async def test_a_server_without_bridges_knows_no_networks(server: Server) -> None:
    alice = await server.register("alice")
    assert await alice.get("/thirdparty/protocols") == {}
    for path in ("protocol/irc", "location/irc", "user/irc"):
        await alice.get(f"/thirdparty/{path}", expect=(404, "M_NOT_FOUND"))
    for path in ("location", "user"):
        params = {"alias": "#a:localhost", "userid": "@a:localhost"}
        await alice.get(f"/thirdparty/{path}", params=params, expect=(404, "M_NOT_FOUND"))


async def test_a_password_for_the_turn_server_is_of_one_person_for_a_while(start_server: Any) -> None:
    """VOIP: as coturn checks it."""
    server = await start_server(calls={"turn": TURN})
    alice = await server.register("alice")
    given = await alice.get("/voip/turnServer")
    assert (given["uris"], given["ttl"]) == (TURN["uris"], 3600)
    expires, _, user_id = given["username"].partition(":")
    assert user_id == alice.user_id
    assert int(expires) > 3600
    digest = hmac.new(b"s", given["username"].encode(), hashlib.sha1).digest()
    assert given["password"] == base64.b64encode(digest).decode()
    guest = server.user(await server.client.post("/register", json={}, params={"kind": "guest"}))
    await guest.get("/voip/turnServer", expect=(403, "M_GUEST_ACCESS_FORBIDDEN"))


async def test_without_a_turn_server_there_is_no_password(server: Server) -> None:
    alice = await server.register("alice")
    await alice.get("/voip/turnServer", expect=(404, "M_NOT_FOUND"))
