"""Profiles, aliases, lists of rooms, spaces and OpenID tokens, told to other servers: CHECKLIST FED-36 to FED-38, FED-40."""

from urllib.parse import quote

import pytest

from tests.support.federation import Federation
from tests.support.remote_members import take_part

V1 = "/_matrix/federation/v1"
FULL = "/_matrix/federation/v1/hierarchy/"


def q(text: str) -> str:
    return quote(text, safe="")


async def test_profiles_of_our_users(federation: Federation) -> None:
    """FED-36: a field that is not set is left out."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    await alice.put("/profile/{}/displayname", alice.user_id, json={"displayname": "Älice"})
    uri = f"{V1}/query/profile?user_id={q(alice.user_id)}"
    assert await remote.ask(here, "GET", uri) == (200, {"displayname": "Älice"})
    assert await remote.ask(here, "GET", uri + "&field=displayname") == (200, {"displayname": "Älice"})
    assert await remote.ask(here, "GET", uri + "&field=avatar_url") == (200, {})
    for other, status, code in [
        ("", 400, "M_INVALID_PARAM"),
        ("alice", 400, "M_INVALID_PARAM"),
        ("@bob:elsewhere.example", 400, "M_INVALID_PARAM"),
        (f"@nobody:{here.name}", 404, "M_NOT_FOUND"),
    ]:
        found = await remote.ask(here, "GET", f"{V1}/query/profile?user_id={q(other)}")
        assert (found[0], found[1]["errcode"]) == (status, code), other
    assert (await remote.ask(here, "GET", f"{V1}/query/profile"))[0] == 400
    status, said = await remote.ask(here, "GET", f"{V1}/query/whatever?x=y")
    assert (status, said["errcode"]) == (404, "M_NOT_FOUND")


async def test_profiles_are_told_to_nobody_where_that_is_configured(federation: Federation) -> None:
    """FED-36."""
    here, remote = await federation.start(federation={"profile_lookup": False}), await federation.remote()
    alice = await here.register("alice")
    status, said = await remote.ask(here, "GET", f"{V1}/query/profile?user_id={q(alice.user_id)}")
    assert (status, said["errcode"]) == (403, "M_FORBIDDEN")


async def test_aliases_of_our_rooms(federation: Federation) -> None:
    """FED-36: with servers that are in the room."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    room = await alice.create_room(preset="public_chat", room_alias_name="tea")
    await take_part(here, remote, room, remote.user("bob"))
    uri = f"{V1}/query/directory?room_alias="
    status, found = await remote.ask(here, "GET", uri + q(f"#tea:{here.name}"))
    assert (status, found) == (200, {"room_id": room, "servers": [here.name, remote.name]})
    status, said = await remote.ask(here, "GET", uri + q(f"#none:{here.name}"))
    assert (status, said["errcode"]) == (404, "M_NOT_FOUND")
    for wrong in ("tea", f"#tea:{remote.name}", "%00", ""):
        assert (await remote.ask(here, "GET", uri + q(wrong)))[0] == 400


async def test_the_list_of_rooms_is_told_where_that_is_configured(federation: Federation) -> None:
    """FED-37."""
    here, remote = await federation.start(), await federation.remote()
    closed = await federation.start(rooms={"directory": {"read_over_federation": False}})
    for method, body in (("GET", None), ("POST", {})):
        status, said = await remote.ask(closed, method, f"{V1}/publicRooms", body)
        assert (status, said["errcode"]) == (403, "M_FORBIDDEN")
    alice = await here.register("alice")
    rooms = [
        await alice.create_room(preset="public_chat", visibility="public", name=name)
        for name in ("Tea", "Coffee")
    ]
    status, found = await remote.ask(here, "GET", f"{V1}/publicRooms")
    assert status == 200
    assert {room["room_id"] for room in found["chunk"]} == set(rooms)
    status, found = await remote.ask(here, "GET", f"{V1}/publicRooms?limit=1")
    status, rest = await remote.ask(here, "GET", f"{V1}/publicRooms?limit=1&since={found['next_batch']}")
    assert {found["chunk"][0]["room_id"], rest["chunk"][0]["room_id"]} == set(rooms)
    wanted = {"filter": {"generic_search_term": "tea"}, "limit": 10}
    status, found = await remote.ask(here, "POST", f"{V1}/publicRooms", wanted)
    assert [room["room_id"] for room in found["chunk"]] == [rooms[0]]
    for wrong in ({"limit": "x"}, {"filter": 7}, {"since": "x"}, []):
        assert (await remote.ask(here, "POST", f"{V1}/publicRooms", wrong))[0] == 400


async def test_rooms_under_a_room(federation: Federation) -> None:
    """FED-38: what the server could not enter is named as such, and what is not known here is left out."""
    here, remote = await federation.start(), await federation.remote()
    alice = await here.register("alice")
    root = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    open_room, private = await alice.create_room(preset="public_chat"), await alice.create_room()
    allow = [{"type": "m.room_membership", "room_id": root}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    restricted = await alice.create_room(initial_state=[rules])
    for order, child in enumerate([open_room, private, restricted, "!unknown:elsewhere.example", root]):
        content = {"via": [here.name], "order": str(order), "suggested": child == open_room}
        await alice.put_state(root, "m.space.child", content, child)
    status, found = await remote.ask(here, "GET", FULL + q(root))
    assert status == 200
    assert found["room"]["room_id"] == root
    assert len(found["room"]["children_state"]) == 5
    assert [room["room_id"] for room in found["children"]] == [open_room]
    assert found["inaccessible_children"] == [private, restricted]
    status, found = await remote.ask(here, "GET", FULL + q(root) + "?suggested_only=true")
    assert [child["state_key"] for child in found["room"]["children_state"]] == [open_room]
    await take_part(here, remote, root, remote.user("bob"))
    status, found = await remote.ask(here, "GET", FULL + q(root))
    assert [room["room_id"] for room in found["children"]] == [open_room, restricted]
    for room in (private, "!unknown:x.example"):
        status, said = await remote.ask(here, "GET", FULL + q(room))
        assert (status, said["errcode"]) == (404, "M_NOT_FOUND")
    assert (await remote.ask(here, "GET", FULL + "nonsense"))[0] == 400


@pytest.mark.parametrize("enabled", [True, False])
async def test_whose_an_openid_token_is(federation: Federation, enabled: bool) -> None:
    """FED-40, OID-01: services ask without a signature, whether or not the server federates."""
    here, remote = await federation.start(federation={"enabled": enabled}), await federation.remote()
    alice = await here.register("alice")
    got = await alice.post("/user/{}/openid/request_token", alice.user_id, json={})
    uri = f"{V1}/openid/userinfo"
    found = await remote.ask(here, "GET", f"{uri}?access_token={got['access_token']}", headers={})
    assert found == (200, {"sub": alice.user_id})
    for wrong in (uri, f"{uri}?access_token=", f"{uri}?access_token=x", f"{uri}?access_token={alice.token}"):
        status, said = await remote.ask(here, "GET", wrong, headers={})
        assert (status, said["errcode"]) == (401, "M_UNKNOWN_TOKEN")


async def test_nobody_is_told_anything_without_a_signature(federation: Federation) -> None:
    """FED-04."""
    here, remote = await federation.start(), await federation.remote()
    for uri in (
        "/query/profile?user_id=@a:b",
        "/query/directory?room_alias=%23a:b",
        "/publicRooms",
        "/hierarchy/!a:b",
        "/event/$a",
        "/backfill/!a:b?v=$a&limit=1",
        "/state/!a:b?event_id=$a",
        "/media/download/abc",
        "/media/thumbnail/abc?width=1&height=1",
    ):
        assert (await remote.ask(here, "GET", V1 + uri, headers={}))[0] == 401, uri
