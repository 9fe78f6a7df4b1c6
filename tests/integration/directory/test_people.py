# ruff: noqa: RUF001  # letters that look like others are what some of this is about
"""Searching for people; networks of bridges; passwords for calls."""

import base64
import hashlib
import hmac
from typing import Any

import psycopg
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


async def test_people_one_talks_with_come_first(fresh_server: Server) -> None:
    """USER-06: direct chats, then those with whom one shares most rooms, then by how the name begins."""
    people = [await fresh_server.register_exactly(f"sam{n}") for n in range(5)]
    alice = await fresh_server.register_exactly("alice")
    for person, name in zip(people, ("Sam", "Dr. Samuel", "Sam", "Balsam", "Sam"), strict=True):
        await rename(person, name)
    direct = await alice.create_room(invite=[people[4].user_id], is_direct=True)
    await people[4].join(direct)
    rooms = [await alice.create_room(preset="public_chat") for _ in range(2)]
    for room, who in ((rooms[0], 3), (rooms[1], 3), (rooms[0], 2)):
        await people[who].join(room)
    assert await found(alice, "sam") == [people[n].user_id for n in (3, 2, 4, 0, 1)]
    content = {people[4].user_id: [direct]}
    await alice.put("/user/{}/account_data/m.direct", alice.user_id, json=content)
    assert await found(alice, "sam") == [people[n].user_id for n in (4, 3, 2, 0, 1)]
    assert (await found(alice, "sam1"))[0] == people[1].user_id, "whose id it is"


@pytest.mark.parametrize(
    ("whom", "expected"), [("everybody", "abcd"), ("shared_rooms", "bc"), ("nobody", "")]
)
async def test_whom_one_finds_is_the_administrators_choice(
    start_server: Any, whom: str, expected: str
) -> None:
    """USER-06: others in one's rooms, and who is in a published one; or everybody; or nobody."""
    server = await start_server(rooms={"directory": {"user_search": whom}})
    people = [await server.register_exactly(f"person.{letter}") for letter in "abcd"]
    alice, bob, carol, dora = people
    private = await bob.create_room(invite=[alice.user_id])
    await alice.join(private)
    await carol.create_room(visibility="public")
    await dora.create_room()
    assert sorted(await found(alice, "person")) == [f"@person.{letter}:localhost" for letter in expected]
    # Oneself as others are: where one can be found by anybody, and by the whole user id.
    assert (carol.user_id in await found(carol, "person")) == (whom != "nobody")
    assert (await found(alice, alice.user_id) == [alice.user_id]) == (whom != "nobody")


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("Иван Петров", ["Иван", "иван", "ПЕТРОВ", "петров иван", "ива"]),
        ("Jürgen Ömer", ["Ömer", "ömer", "ÖMER", "omer", "O\u0308mer", "jurgen"]),
        ("Łukasz", ["łukasz", "ŁUKASZ", "lukasz"]),
        ("Ελένη", ["ελένη", "ΕΛΕΝΗ", "ελενη"]),
        ("Ｙａｍａｄａ 山田太郎", ["yamada", "山田", "太郎"]),
        ("Großmann", ["GROSSMANN", "grossmann", "großmann"]),
    ],
)
async def test_people_are_found_by_what_is_the_same_to_people(
    server: Server, name: str, terms: list[str]
) -> None:
    """USER-06: whatever the case, accents and width, in any script."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await rename(bob, f"{name} {bob.localpart}")
    for term in terms:
        assert await found(alice, f"{term} {bob.localpart}") == [bob.user_id], term
        assert bob.user_id in await found(alice, term, limit=50), term
    assert await found(alice, f"nobody {bob.localpart}") == []


async def test_who_meets_whom_is_found_where_not_everybody_is(start_server: Any) -> None:
    """USER-06: members of rooms that anybody may join or read, as long as anybody may; and owners of whole user ids."""
    server = await start_server(rooms={"directory": {"user_search": "shared_rooms"}})
    alice = await server.register_exactly("alice")
    people = [await server.register_exactly(f"person.{number}") for number in range(4)]
    joinable = await people[0].create_room(preset="public_chat")
    readable = {"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}
    await people[1].create_room(initial_state=[readable])
    closed = await people[2].create_room()
    assert await found(alice, "person") == [people[0].user_id, people[1].user_id]
    for user in people:
        assert await found(alice, user.user_id.upper()) == [user.user_id]
    await people[2].put_state(closed, "m.room.join_rules", {"join_rule": "public"})
    assert await found(alice, "person") == [user.user_id for user in people[:3]]
    await people[0].put_state(joinable, "m.room.join_rules", {"join_rule": "invite"})
    assert await found(alice, "person") == [people[1].user_id, people[2].user_id]
    await people[1].leave((await people[1].get("/joined_rooms"))["joined_rooms"][0])
    assert await found(alice, "person") == [people[2].user_id]


async def test_a_name_used_in_one_room_is_nowhere_else(fresh_server: Server) -> None:
    """USER-06: people are found by their profile, not by what they call themselves in a room."""
    alice, bob, eve = [await fresh_server.register_exactly(name) for name in ("alice", "bob", "eve")]
    await rename(alice, "Alice Cooper")
    await alice.create_room(preset="public_chat", visibility="public")
    private = await bob.create_room(invite=[alice.user_id])
    await alice.join(private)
    own = {"membership": "join", "displayname": "Freddy"}
    await alice.put_state(private, "m.room.member", own, alice.user_id)
    for user in (bob, eve):
        assert await found(user, alice.user_id) == [alice.user_id]
        assert await found(user, "Alice Cooper") == [alice.user_id]
        assert await found(user, "Freddy") == []


async def test_names_of_before_are_folded_before_anybody_is_looked_for(start_server: Any) -> None:
    """USER-06: rows that an earlier version wrote, more of them than are folded at once."""
    server = await start_server()
    alice = await server.register_exactly("alice")
    with psycopg.connect(server.dsn) as connection:
        connection.execute(
            """
            WITH made AS (INSERT INTO users (user_id) SELECT '@old' || n || ':localhost' FROM generate_series(1, 1200) n
                          RETURNING user_nid),
                 accounts AS (INSERT INTO accounts (user_nid, created_ms) SELECT user_nid, 0 FROM made RETURNING user_nid)
            INSERT INTO profiles (user_nid, fields) SELECT user_nid, %(fields)s FROM made
            """,
            {"fields": '{"displayname":"Ömer"}'.encode()},
        )
    reply = await alice.post("/user_directory/search", json={"search_term": "OMER", "limit": 50})
    assert (len(reply["results"]), reply["limited"]) == (50, True)
    with psycopg.connect(server.dsn) as connection:
        rows = connection.execute(
            "SELECT folded_name, count(*) FROM profiles GROUP BY 1 ORDER BY 2"
        ).fetchall()
    assert ("omer", 1200) in rows


async def test_a_server_without_bridges_knows_no_networks(server: Server) -> None:
    alice = await server.register("alice")
    assert await alice.get("/thirdparty/protocols") == {}
    for path in ("protocol/irc", "location/irc", "user/irc"):
        await alice.get(f"/thirdparty/{path}", expect=(404, "M_NOT_FOUND"))
    for path in ("location", "user"):
        params = {"alias": "#a:localhost", "userid": "@a:localhost"}
        await alice.get(f"/thirdparty/{path}", params=params, expect=(404, "M_NOT_FOUND"))


async def test_a_password_for_the_turn_server_is_of_one_person_for_a_while(start_server: Any) -> None:
    """VOIP-01: as coturn checks it."""
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
