"""Restricted joins, memberships, aliases and redactions: CHECKLIST sections 8, 10 and 19."""

from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User


async def restricted(alice: User, space: str, rule: str, version: str) -> str:
    allow = [{"type": "m.room_membership", "room_id": space}]
    content = {"join_rule": rule, "allow": allow}
    state = [{"type": "m.room.join_rules", "content": content}]
    return await alice.create_room(preset="private_chat", room_version=version, initial_state=state)


@pytest.mark.parametrize("version", ["8", "10", "11", "12"])
async def test_members_of_an_allowed_room_may_join(server: Server, version: str) -> None:
    """JOIN-01, JOIN-02."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    space = await alice.create_room(preset="public_chat")
    room = await restricted(alice, space, "restricted", version)
    await bob.join(room, expect=(403, "M_FORBIDDEN"))
    await bob.join(space)
    await bob.join(room)
    member = await alice.state(room, "m.room.member", bob.user_id)
    assert member["join_authorised_via_users_server"] == alice.user_id
    await alice.invite(room, carol)
    await carol.join(room)
    assert "join_authorised_via_users_server" not in await alice.state(room, "m.room.member", carol.user_id)
    await bob.leave(space)
    await bob.leave(room)
    await bob.join(room, expect=(403, "M_FORBIDDEN"))


async def test_servers_to_ask_may_be_named_and_are_not_needed_here(server: Server) -> None:
    """ROOM-15: as far as it goes without other servers; `server_name` is what it was called before 1.14."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    knocking = await alice.create_room(
        initial_state=[{"type": "m.room.join_rules", "content": {"join_rule": "knock"}}]
    )
    elsewhere = ["localhost:1", "localhost:2"]
    await bob.join(room, via=elsewhere)
    await bob.post("/knock/{}", knocking, json={}, params={"via": elsewhere, "server_name": elsewhere})
    unknown = {"json": {}, "params": {"via": elsewhere}, "expect": 502}
    await bob.post("/join/{}", "!unknown:localhost:1", **unknown)
    await bob.post("/knock/{}", "!unknown:localhost:1", **unknown)
    await bob.post("/join/{}", "!unknown", json={}, expect=(404, "M_NOT_FOUND"))


@pytest.mark.parametrize("version", ["10", "12"])
async def test_knock_restricted_allows_both_ways(server: Server, version: str) -> None:
    """JOIN-03."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    space = await alice.create_room(preset="public_chat")
    room = await restricted(alice, space, "knock_restricted", version)
    await bob.join(space)
    await bob.join(room)
    await carol.join(room, expect=(403, "M_FORBIDDEN"))
    await carol.post("/knock/{}", room)
    await alice.invite(room, carol)
    await carol.join(room)


async def test_memberships_follow_the_table(server: Server) -> None:
    """ROOM-13, ROOM-14, ROOM-16."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="private_chat")
    await alice.invite(room, bob)
    await alice.invite(room, bob)
    await alice.unban(room, bob, expect=(400, "M_BAD_STATE"))
    await bob.join(room)
    await alice.invite(room, bob, expect=(403, "M_FORBIDDEN"))
    await bob.post("/knock/{}", room, expect=(403, "M_FORBIDDEN"))
    await bob.unban(room, alice, expect=(403, "M_FORBIDDEN"))
    await alice.ban(room, bob)
    await alice.invite(room, bob, expect=(403, "M_FORBIDDEN"))
    await bob.join(room, expect=(403, "M_FORBIDDEN"))
    await alice.unban(room, bob)
    assert (await alice.members(room))[bob.user_id] == "leave"


async def test_aliases(server: Server) -> None:
    """ROOM-10, ROOM-11, ROOM-12."""
    alice, bob = await server.register("alice"), await server.register("bob")
    here, there = await alice.create_room(), await alice.create_room()
    path, alias = "/directory/room/{}", f"#{alice.localpart}:{alice.server_name}"
    await alice.put(path, "nonsense", json={"room_id": here}, expect=(400, "M_INVALID_PARAM"))
    await alice.get(path, alias, expect=(404, "M_NOT_FOUND"))
    await alice.put(path, alias, json={"room_id": here})
    await alice.put(path, alias, json={"room_id": there}, expect=409)
    kind = "m.room.canonical_alias"
    await alice.put_state(there, kind, {"alias": alias}, expect=(400, "M_BAD_ALIAS"))
    await alice.put_state(here, kind, {"alt_aliases": ["x"]}, expect=(400, "M_INVALID_PARAM"))
    await alice.put_state(here, kind, {"alias": alias})
    assert (await alice.get("/rooms/{}/aliases", here))["aliases"] == [alias]
    await bob.get("/rooms/{}/aliases", here, expect=(403, "M_FORBIDDEN"))
    visibility = {"history_visibility": "world_readable"}
    await alice.put_state(here, "m.room.history_visibility", visibility)
    await bob.get("/rooms/{}/aliases", here)
    await bob.delete(path, alias, expect=(403, "M_FORBIDDEN"))
    await alice.delete(path, alias)
    await alice.get(path, alias, expect=(404, "M_NOT_FOUND"))


async def test_an_alias_that_is_deleted_is_no_longer_the_rooms_address(server: Server) -> None:
    """ROOM-10: whoever may change m.room.canonical_alias takes it out there; who may not deletes it all the same."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    path, kind = "/directory/room/{}", "m.room.canonical_alias"
    first, second, his = (f"#{name}.{alice.localpart}:{alice.server_name}" for name in ("a", "b", "c"))
    for user, alias in ((alice, first), (alice, second), (bob, his)):
        await user.put(path, alias, json={"room_id": room})
    everything = {"alias": first, "alt_aliases": [second, his], "org.example": 1}
    await alice.put_state(room, kind, everything)
    await bob.delete(path, his)
    assert await alice.state(room, kind) == everything
    await alice.delete(path, first)
    assert await alice.state(room, kind) == {"alt_aliases": [second, his], "org.example": 1}
    await alice.delete(path, second)
    assert await alice.state(room, kind) == {"alt_aliases": [his], "org.example": 1}


@pytest.mark.parametrize("version", ["1", "9", "10", "11", "12"])
async def test_redactions_in_every_version(server: Server, version: str) -> None:
    """RED-02, RED-04, RED-05, RED-06."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", room_version=version)
    await bob.join(room)
    his, hers = await bob.send(room, "his"), await alice.send(room, "hers")
    redaction = await bob.redact(room, his, "typo")
    by_send: dict[str, Any] = {"redacts": hers, "reason": "sent"}
    await bob.send_event(room, "m.room.redaction", by_send, expect=(403, "M_FORBIDDEN"))
    await alice.send_event(room, "m.room.redaction", by_send)
    for event_id in (his, hers):
        event = await bob.event(room, event_id)
        assert event["content"] == {}
        because = event["unsigned"]["redacted_because"]
        assert because["redacts"] == because["content"]["redacts"] == event_id
        assert event["unsigned"]["redacted_by"] == because["event_id"]
    shown = await bob.event(room, redaction)
    assert shown["redacts"] == shown["content"]["redacts"] == his


async def test_an_event_is_redacted_in_its_own_room(server: Server) -> None:
    """RED-02: 400 for one of another room, 404 for one that nobody knows; both ways of redacting say the same."""
    alice = await server.register("alice")
    here, there = await alice.create_room(), await alice.create_room()
    elsewhere = await alice.send(there, "elsewhere")
    for event_id, refused in ((elsewhere, (400, "M_INVALID_PARAM")), ("$nothing", (404, "M_NOT_FOUND"))):
        await alice.redact(here, event_id, expect=refused)
        await alice.send_event(here, "m.room.redaction", {"redacts": event_id}, expect=refused)
    assert (await alice.event(there, elsewhere))["content"]["body"] == "elsewhere"


async def test_a_state_event_with_format_comes_whole(server: Server) -> None:
    """ROOM-21."""
    alice = await server.register("alice")
    room = await alice.create_room(name="Name")
    event = await alice.get("/rooms/{}/state/m.room.name/", room, params={"format": "event"})
    assert event["content"] == {"name": "Name"}
    assert (event["type"], event["state_key"], event["room_id"]) == ("m.room.name", "", room)


async def test_context_stands_around_its_event(server: Server) -> None:
    """ROOM-22, ROOM-23."""
    alice = await server.register("alice")
    room = await alice.create_room()
    events = [await alice.send(room, f"{n}") for n in range(5)]
    path = "/rooms/{}/context/{}"
    around = await alice.get(path, room, events[2], params={"limit": 2})
    assert around["event"]["event_id"] == events[2]
    assert [e["event_id"] for e in around["events_before"]] == [events[1]]
    assert [e["event_id"] for e in around["events_after"]] == [events[3]]
    alone = await alice.get(path, room, events[2], params={"limit": 0})
    assert (alone["events_before"], alone["events_after"]) == ([], [])
    page = await alice.messages(room, from_=around["start"], limit=1)
    assert page["chunk"][0]["event_id"] == events[0]
    page = await alice.messages(room, dir="f", from_=around["end"], limit=1)
    assert page["chunk"][0]["event_id"] == events[4]
    assert (await alice.messages(room, dir="f", limit=1))["chunk"][0]["type"] == "m.room.create"


async def test_nobody_says_by_themselves_who_vouches_for_their_join(server: Server) -> None:
    """JOIN-02: the server does. Clients send back what they found in their membership when they change their name."""
    alice, bob = await server.register("alice"), await server.register("bob")
    club = await alice.create_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": club}]
    rule = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    room = await alice.create_room(room_version="11", initial_state=[rule])
    claim = {"membership": "join", "join_authorised_via_users_server": alice.user_id}
    await bob.put_state(room, "m.room.member", claim, bob.user_id, expect=403)
    await bob.post("/join/{}", room, json=claim, expect=(403, "M_FORBIDDEN"))
    assert bob.user_id not in await alice.members(room)
    await bob.join(club)
    await bob.join(room)
    for authoriser in (alice.user_id, "@somebody:else.where", "unused"):
        content = {**claim, "displayname": authoriser, "join_authorised_via_users_server": authoriser}
        await bob.put_state(room, "m.room.member", content, bob.user_id)
        found = await bob.state(room, "m.room.member", bob.user_id)
        assert found == {"membership": "join", "displayname": authoriser}


async def test_only_who_is_in_a_room_gives_it_a_name(start_server: Any) -> None:
    """ROOM-10: otherwise anybody could name private rooms, and learn which ids are rooms here. Administrators may."""
    server = await start_server()
    alice, bob, admin = [await server.register(name) for name in ("alice", "bob", "admin")]
    accounts = server.app.features.accounts.accounts
    await accounts.set_flags((await accounts.find(admin.user_id)).user_nid, is_admin=True)
    room = await alice.create_room()
    path, alias = "/directory/room/{}", f"#{alice.localpart}:{alice.server_name}"
    await bob.put(path, alias, json={"room_id": room}, expect=(403, "M_FORBIDDEN"))
    await bob.put(path, alias, json={"room_id": "!nothing:example.org"}, expect=(403, "M_FORBIDDEN"))
    await alice.invite(room, bob)
    await bob.put(path, alias, json={"room_id": room}, expect=(403, "M_FORBIDDEN"))
    await bob.join(room)
    await bob.put(path, alias, json={"room_id": room})
    await admin.put(path, f"#other{alias[1:]}", json={"room_id": room})
    await admin.put(
        path, f"#more{alias[1:]}", json={"room_id": "!no:example.org"}, expect=(404, "M_NOT_FOUND")
    )


@pytest.mark.parametrize("path", ["/join/{}", "/rooms/{}/join"])
async def test_what_a_client_adds_to_a_join_is_not_what_the_join_is(server: Server, path: str) -> None:
    """The body becomes part of the event, but says neither who joins, nor that it is no join, nor who vouches for it."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    taken = {"membership": "ban", "join_authorised_via_users_server": alice.user_id, "third_party_signed": {}}
    own = {"sender": alice.user_id, "target": "x", "fields": {}, "reason": "tea", "org.example": [1]}
    await bob.delete("/profile/{}/displayname", bob.user_id)
    await bob.post(path, room, json={**taken, **own})
    assert await alice.state(room, "m.room.member", bob.user_id) == {**own, "membership": "join"}


@pytest.mark.parametrize(
    "content", [{"reason": 5}, {"displayname": ["x"]}, {"org.example": 1.5}, {"avatar_url": {}}], ids=str
)
async def test_a_join_is_looked_into_like_any_event(server: Server, content: dict[str, Any]) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.post("/join/{}", room, json=content, expect=(400, "M_BAD_JSON"))
    assert bob.user_id not in await alice.members(room)
