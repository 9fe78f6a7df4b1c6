"""Profiles, aliases, lists of rooms and spaces of other servers: CHECKLIST USER-05, DIR-03, SPACE-04, SUM-01, FED-27."""

import asyncio
from typing import Any

import pytest

from tests.support.federation import Federation
from tests.support.remote_server import Asked, RemoteServer, status
from tests.support.server import Server
from tests.support.user import User

V1 = "/_matrix/federation/v1"
HIERARCHY = "/_matrix/client/v1/rooms/{}/hierarchy"
SUMMARY = "/_matrix/client/v1/room_summary/{}"
PROFILE = f"{V1}/query/profile"


async def both(federation: Federation) -> tuple[Server, RemoteServer]:
    return await federation.start(), await federation.remote()


# --- profiles ------------------------------------------------------------------------------------------------------


async def test_a_profile_is_asked_for_once(federation: Federation) -> None:
    """USER-05: whoever asks at the same time, or soon after, gets the same answer."""
    here, remote = await both(federation)
    bob = remote.user("bob")

    async def slowly(_: Asked) -> dict[str, Any]:
        await asyncio.sleep(0.1)
        return {"displayname": "Bob", "avatar_url": 7, "m.tz": None, "org.example.x": {"y": 1}, "k" * 300: 1}

    remote.answers("GET", PROFILE, slowly)
    get = here.client.get
    found = await asyncio.gather(*(get("/profile/{}", bob) for _ in range(5)))
    assert found == [{"displayname": "Bob", "org.example.x": {"y": 1}}] * 5
    assert await get("/profile/{}/displayname", bob) == {"displayname": "Bob"}
    await get("/profile/{}/avatar_url", bob, expect=(404, "M_NOT_FOUND"))
    [asked] = remote.requests("GET", PROFILE)
    assert asked.query == {"user_id": bob}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (status(404, {"errcode": "M_NOT_FOUND", "error": "x"}), (404, "M_NOT_FOUND")),
        (status(403, {"errcode": "M_FORBIDDEN", "error": "x"}), (403, "M_FORBIDDEN")),
        (status(400, {"errcode": "M_MISSING_PARAM", "error": "x"}), (502, "M_UNKNOWN")),
        (status(500, {}), (502, "M_UNKNOWN")),
        (b"nonsense", (502, "M_UNKNOWN")),
        ([], (502, "M_UNKNOWN")),
        (b'{"displayname": "' + b"x" * 200_000 + b'"}', (502, "M_UNKNOWN")),
    ],
)
async def test_what_is_no_profile_is_an_error(
    federation: Federation, said: Any, expected: tuple[int, str]
) -> None:
    """USER-05, FED-27; what failed is not asked for again at once."""
    here, remote = await both(federation)
    remote.answers("GET", PROFILE, said)
    for _ in range(2):
        await here.client.get("/profile/{}", remote.user("bob"), expect=expected)
    assert len(remote.requests("GET", PROFILE)) == 1


# --- aliases -------------------------------------------------------------------------------------------------------


async def test_an_alias_of_another_server(federation: Federation) -> None:
    here, remote = await both(federation)
    servers = ["one.example", "no server!", remote.name]
    remote.answers("GET", f"{V1}/query/directory", {"room_id": "!room:one.example", "servers": servers})
    found = await here.client.get("/directory/room/{}", f"#tea:{remote.name}")
    assert found == {"room_id": "!room:one.example", "servers": ["one.example", remote.name]}
    remote.answers("GET", f"{V1}/query/directory", status(404, {"errcode": "M_NOT_FOUND", "error": ""}))
    await here.client.get("/directory/room/{}", f"#none:{remote.name}", expect=(404, "M_NOT_FOUND"))
    for wrong in ({"room_id": "nonsense", "servers": []}, {"servers": []}, {"room_id": "!a:b", "servers": 7}):
        remote.answers("GET", f"{V1}/query/directory", wrong)
        alias = f"#wrong{len(str(wrong))}:{remote.name}"
        await here.client.get("/directory/room/{}", alias, expect=(502, "M_UNKNOWN"))
    await here.client.get("/directory/room/{}", f"#none:{here.name}", expect=(404, "M_NOT_FOUND"))
    await here.client.get("/directory/room/{}", "nonsense", expect=(400, "M_INVALID_PARAM"))


# --- lists of rooms ------------------------------------------------------------------------------------------------


async def test_the_list_of_another_server(federation: Federation) -> None:
    """DIR-03: what is no room in it is left out."""
    here, remote = await both(federation)
    room = {
        "room_id": "!a:b.example",
        "num_joined_members": 3,
        "world_readable": True,
        "guest_can_join": False,
    }
    told = {
        "chunk": [
            {**room, "name": "Tea", "topic": 7, "room_type": None},
            {**room, "room_id": "x"},
            {**room, "num_joined_members": "many"},
            7,
        ],
        "next_batch": "next",
        "prev_batch": 7,
        "total_room_count_estimate": "lots",
    }
    remote.answers("POST", f"{V1}/publicRooms", told)
    alice = await here.register("alice")
    body = {"filter": {"generic_search_term": "tea", "room_types": [None]}, "limit": 7, "since": "s"}
    found = await alice.post("/publicRooms", json=body, params={"server": remote.name})
    assert found == {"chunk": [{**room, "join_rule": "public", "name": "Tea"}], "next_batch": "next"}
    [asked] = remote.requests("POST", f"{V1}/publicRooms")
    assert asked.json == body
    assert (await alice.get("/publicRooms", params={"server": here.name}))["chunk"] == []
    await alice.get("/publicRooms", params={"server": "no server"}, expect=(400, "M_INVALID_PARAM"))
    remote.answers("POST", f"{V1}/publicRooms", status(403, {"errcode": "M_FORBIDDEN", "error": ""}))
    await alice.get("/publicRooms", params={"server": remote.name}, expect=(403, "M_FORBIDDEN"))


async def test_two_servers_show_each_other_their_lists(federation: Federation) -> None:
    """DIR-03, FED-37."""
    one, two = await federation.start(), await federation.start()
    alice, bob = await one.register("alice"), await two.register("bob")
    room = await alice.create_room(
        preset="public_chat", visibility="public", name="Tea", room_alias_name="tea"
    )
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Alice"})
    [shown] = (await bob.get("/publicRooms", params={"server": one.name}))["chunk"]
    assert (shown["room_id"], shown["name"]) == (room, "Tea")
    located = await bob.get("/directory/room/{}", f"#tea:{one.name}")
    assert located == {"room_id": room, "servers": [one.name]}
    assert await bob.get("/profile/{}", alice.user_id) == {"displayname": "Alice"}
    assert (await bob.get(SUMMARY, f"#tea:{one.name}"))["name"] == "Tea"
    assert (await bob.get(HIERARCHY, room, params={"via": one.name}))["rooms"][0]["name"] == "Tea"


# --- spaces --------------------------------------------------------------------------------------------------------


def told(room_id: str, children: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    """A room as another server tells it."""
    return {
        "room_id": room_id,
        "num_joined_members": 1,
        "world_readable": False,
        "guest_can_join": False,
        "join_rule": "public",
        **({"room_type": "m.space"} if children is not None else {}),
        "children_state": [
            {
                "type": "m.space.child",
                "state_key": child,
                "content": {"via": ["localhost"], "order": str(order)},
                "sender": "@bob:remote.example",
                "origin_server_ts": order,
            }
            for order, child in enumerate(children or [])
        ],
        **fields,
    }


async def test_rooms_that_are_not_here_are_asked_for(federation: Federation) -> None:
    """SPACE-04: what is known here counts; who reads is looked at for each room; a branch is asked for once."""
    here, remote = await both(federation)
    alice, bob = await here.register("alice"), await here.register("bob")
    root = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    local = await alice.create_room(name="Ours")
    space, leaf, secret, restricted, gone = (f"!{name}:remote.example" for name in "abcde")
    await alice.put_state(root, "m.space.child", {"via": [remote.name]}, space)
    answer = {
        "room": told(space, [leaf, secret, restricted, local, gone, root], name="Theirs"),
        "children": [
            told(leaf, name="Leaf", children_state=7),
            told(restricted, join_rule="restricted", allowed_room_ids=[root]),
            told(local, name="Lie"),
            {"room_id": "nonsense"},
        ],
        "inaccessible_children": [secret, 7],
    }
    remote.answers("GET", f"{V1}/hierarchy/*", answer)
    shown = (await alice.get(HIERARCHY, root))["rooms"]
    assert [room["room_id"] for room in shown] == [root, space, leaf, restricted, local]
    assert [room.get("name") for room in shown] == [None, "Theirs", "Leaf", None, "Ours"]
    assert len(shown[1]["children_state"]) == 6
    shown = (await bob.get(HIERARCHY, root))["rooms"]
    assert [room["room_id"] for room in shown] == [root, space, leaf]
    assert sum("%21a" in asked.path for asked in remote.asked) == 1
    assert not any("%21c" in asked.path for asked in remote.asked), "it said that nobody may enter"


LEAF = "!leaf:remote.example"


async def space_of(who: User, remote: RemoteServer, child: str) -> str:
    """A space here, with a room that is there."""
    root = await who.create_room(preset="public_chat", creation_content={"type": "m.space"})
    await who.put_state(root, "m.space.child", {"via": [remote.name]}, child)
    return root


async def test_a_room_that_was_not_shown_is_asked_for_again_when_somebody_has_joined(
    federation: Federation,
) -> None:
    """SPACE-04: a restricted room may be shown then. Once: who joins again and again makes this server ask nobody."""
    here, remote = await both(federation)
    alice, bob = await here.register("alice"), await here.register("bob")
    root = await space_of(alice, remote, LEAF)
    refusal = status(404, {"errcode": "M_NOT_FOUND", "error": ""})

    async def shown() -> list[str]:
        return [room["room_id"] for room in (await alice.get(HIERARCHY, root))["rooms"]]

    def asked() -> int:
        return len(remote.requests("GET", f"{V1}/hierarchy/*"))

    remote.answers("GET", f"{V1}/hierarchy/*", refusal)
    assert [await shown() for _ in range(3)] == [[root]] * 3
    assert asked() == 1, "a refusal is believed"
    await bob.join(root)
    assert await shown() == [root]
    assert asked() == 2
    await bob.leave(root)
    await bob.join(root)
    assert await shown() == [root]
    assert asked() == 2, "the second is believed for a minute"


async def test_a_room_is_shown_as_soon_as_its_server_shows_it(federation: Federation) -> None:
    """SPACE-04."""
    here, remote = await both(federation)
    alice, bob = await here.register("alice"), await here.register("bob")
    root = await space_of(alice, remote, LEAF)
    assert len((await alice.get(HIERARCHY, root))["rooms"]) == 1
    remote.answers("GET", f"{V1}/hierarchy/*", {"room": told(LEAF), "children": []})
    assert len((await alice.get(HIERARCHY, root))["rooms"]) == 1
    await bob.join(root)
    assert [room["room_id"] for room in (await alice.get(HIERARCHY, root))["rooms"]] == [root, LEAF]


async def test_a_server_that_tells_of_another_room_is_not_believed(federation: Federation) -> None:
    """SPACE-04."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    root = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    for n, said in enumerate(
        (
            {"room": told("!other:x.example"), "children": [], "inaccessible_children": []},
            {"room": 7},
            {"children": []},
            b"{",
            status(404, {"errcode": "M_NOT_FOUND", "error": ""}),
            b"[" * 100_000,
        )
    ):
        await alice.put_state(root, "m.space.child", {"via": [remote.name]}, f"!room{n}:x.example")
        remote.answers("GET", f"{V1}/hierarchy/%21room{n}*", said)
    assert [room["room_id"] for room in (await alice.get(HIERARCHY, root))["rooms"]] == [root]


async def test_a_summary_of_a_room_that_is_not_here(federation: Federation) -> None:
    """SUM-01: for who is logged in, and may see it."""
    here, remote = await both(federation)
    alice = await here.register("alice")
    room, private = "!room:x.example", "!private:x.example"
    for each, rule in ((room, "public"), (private, "invite")):
        remote.answers(
            "GET",
            f"{V1}/hierarchy/{each.replace('!', '%21').replace(':', '%3A')}",
            {"room": told(each, name="Theirs", join_rule=rule), "children": [], "inaccessible_children": []},
        )
    shown = await alice.get(SUMMARY, room, params={"via": remote.name})
    assert (shown["name"], shown["membership"]) == ("Theirs", "leave")
    await alice.get(SUMMARY, private, params={"via": remote.name}, expect=(404, "M_NOT_FOUND"))
    await here.client.get(SUMMARY, room, params={"via": remote.name}, expect=(404, "M_NOT_FOUND"))
    await alice.get(SUMMARY, "!other:x.example", params={"via": "no server"}, expect=(404, "M_NOT_FOUND"))
