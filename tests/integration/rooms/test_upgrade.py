"""Room upgrades: CHECKLIST ROOM-25, ROOM-26, ROOM-27."""

import asyncio
from typing import Any

import pytest
from psycopg.errors import DivisionByZero

from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix.ids import RoomId, UserId
from homeserver.rooms import store
from homeserver.web.auth import Requester
from tests.support.server import Server
from tests.support.user import User

SEND = "/rooms/{}/send/m.room.message/{}"
COPIED = {
    "m.room.server_acl": {"allow": ["*"], "deny": ["evil.example"], "allow_ip_literals": False},
    "m.room.encryption": {"algorithm": "m.megolm.v1.aes-sha2"},
    "m.room.name": {"name": "Team"},
    "m.room.avatar": {"url": "mxc://localhost/abc"},
    "m.room.topic": {"topic": "Work"},
    "m.room.guest_access": {"guest_access": "forbidden"},
    "m.room.history_visibility": {"history_visibility": "joined"},
    "m.room.join_rules": {"join_rule": "public"},
}


async def upgrade(user: User, room: str, version: str = "12", *, expect: Any = 200, **more: Any) -> str:
    body = {"new_version": version, **more}
    reply = await user.post("/rooms/{}/upgrade", room, json=body, expect=expect)
    return str(reply.get("replacement_room", ""))


async def whole(user: User, room: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(event["type"], event["state_key"]): event for event in await user.state(room)}


@pytest.mark.parametrize(
    ("before", "after"), [("10", "11"), ("11", "12"), ("12", "12"), ("12", "11"), ("1", "6")]
)
async def test_an_upgrade_makes_a_room_like_the_old_one_and_closes_the_old_one(
    server: Server, before: str, after: str
) -> None:
    """ROOM-25, ROOM-26."""
    alice, bob = await server.register("alice"), await server.register("bob")
    state = [{"type": kind, "content": content} for kind, content in COPIED.items()]
    old = await alice.create_room(
        room_version=before,
        initial_state=[*state, {"type": "org.example.own", "content": {}}],
        creation_content={"type": "org.example.kind"},
        invite=[bob.user_id],
    )
    await bob.join(old)
    new = await upgrade(alice, old, after)
    made = await whole(alice, new)
    create = made["m.room.create", ""]["content"]
    assert create["room_version"] == after
    assert create["type"] == "org.example.kind"
    assert create["predecessor"]["room_id"] == old
    for kind, content in COPIED.items():
        assert made[kind, ""]["content"] == content
    assert ("org.example.own", "") not in made
    assert [key for kind, key in made if kind == "m.room.member"] == [alice.user_id]
    closed = await whole(alice, old)
    tombstone = closed["m.room.tombstone", ""]
    assert tombstone["content"]["replacement_room"] == new
    assert tombstone["content"]["body"]
    if after != "12":
        assert create["predecessor"]["event_id"] == tombstone["event_id"]
    levels = closed["m.room.power_levels", ""]["content"]
    assert (levels["events_default"], levels["invite"]) == (50, 50)
    await bob.send(old, "too late", expect=(403, "M_FORBIDDEN"))
    new_levels = made["m.room.power_levels", ""]["content"]
    assert (new_levels["events_default"], new_levels["invite"]) == (0, 0)
    assert (alice.user_id in new_levels["users"]) is (after != "12")
    await alice.put_state(new, "m.room.name", {"name": "Still mine"})


@pytest.mark.parametrize("before", list(ROOM_VERSIONS))
async def test_who_could_replace_the_room_can_replace_the_new_one(server: Server, before: str) -> None:
    """ROOM-25, ROOM-26: to every version; and nobody else can."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    twelve = before == "12"
    old = await alice.create_room(
        room_version=before,
        preset="public_chat",
        creation_content={"additional_creators": [bob.user_id]} if twelve else {},
        power_level_content_override={"users": {carol.user_id: 99}}
        if twelve
        else {"users": {alice.user_id: 100, bob.user_id: 100, carol.user_id: 99}},
    )
    for after in ROOM_VERSIONS:
        new = await upgrade(alice, old, after)
        for user in (bob, carol):
            await user.join(new)
        closing = {"body": "x", "replacement_room": "!elsewhere:localhost"}
        await carol.put_state(new, "m.room.tombstone", closing, expect=(403, "M_FORBIDDEN"))
        await upgrade(carol, new, "12", expect=(403, "M_FORBIDDEN"))
        newer = await upgrade(bob, new, before)
        await alice.join(newer)
        await upgrade(alice, newer, before)


async def test_a_creator_who_was_banned_is_no_reason_to_fail(server: Server) -> None:
    """ROOM-25: who is named is let in again, for creators cannot be banned."""
    alice, bob = await server.register("alice"), await server.register("bob")
    old = await alice.create_room(preset="public_chat", room_version="11")
    await alice.ban(old, bob)
    new = await upgrade(alice, old, additional_creators=[bob.user_id])
    await bob.join(new)


async def test_who_may_not_close_the_room_does_not_upgrade_it(server: Server) -> None:
    """ROOM-25."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    old = await alice.create_room(preset="public_chat")
    await bob.join(old)
    before = len(await alice.state(old))
    for somebody in (bob, carol):
        await upgrade(somebody, old, expect=(403, "M_FORBIDDEN"))
    await upgrade(alice, old, "no such version", expect=(400, "M_UNSUPPORTED_ROOM_VERSION"))
    await upgrade(alice, "!nothing:localhost", expect=(404, "M_NOT_FOUND"))
    await upgrade(alice, old, additional_creators=["bob"], expect=(400, "M_INVALID_PARAM"))
    await alice.post("/rooms/{}/upgrade", old, json={}, expect=(400, "M_MISSING_PARAM"))
    assert len(await alice.state(old)) == before
    assert (await bob.get("/joined_rooms"))["joined_rooms"] == [old]


async def test_a_moderator_who_may_close_the_room_upgrades_it_without_gaining_power(server: Server) -> None:
    """ROOM-25."""
    alice, bob = await server.register("alice"), await server.register("bob")
    levels = {"users": {alice.user_id: 100, bob.user_id: 50}, "events": {"m.room.tombstone": 50}}
    old = await alice.create_room(
        room_version="11", preset="public_chat", name="Team", power_level_content_override=levels
    )
    await bob.join(old)
    new = await upgrade(bob, old, "11")
    made = (await bob.state(new, "m.room.power_levels"))["users"]
    assert made == {alice.user_id: 100, bob.user_id: 50}
    assert (await bob.state(new, "m.room.name"))["name"] == "Team"
    await bob.put_state(new, "m.room.power_levels", {"users": {}}, expect=(403, "M_FORBIDDEN"))


async def test_creators_are_those_the_request_names(server: Server) -> None:
    """ROOM-26."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    old = await alice.create_room(
        preset="trusted_private_chat", invite=[bob.user_id], power_level_content_override={}
    )
    assert (await alice.state(old, "m.room.create"))["additional_creators"] == [bob.user_id]
    new = await upgrade(alice, old, additional_creators=[carol.user_id])
    create = await alice.state(new, "m.room.create")
    assert create["additional_creators"] == [carol.user_id]
    assert "additional_creators" not in await alice.state(await upgrade(alice, old), "m.room.create")
    eleven = await upgrade(alice, old, "11", additional_creators=[carol.user_id])
    assert "additional_creators" not in await alice.state(eleven, "m.room.create")


async def test_who_had_power_before_version_12_and_now_is_a_creator_is_not_listed(server: Server) -> None:
    """ROOM-26: creators may not stand in `users`; only creators close a version 12 room (ROOM-08)."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    users = {alice.user_id: 100, bob.user_id: 100, carol.user_id: 50}
    old = await alice.create_room(room_version="11", power_level_content_override={"users": users})
    new = await upgrade(alice, old, additional_creators=[bob.user_id])
    levels = await alice.state(new, "m.room.power_levels")
    assert levels["users"] == {carol.user_id: 50}
    assert levels["events"]["m.room.tombstone"] == 150


async def test_aliases_and_the_place_in_the_directory_move_along(server: Server) -> None:
    """ROOM-25."""
    alice = await server.register("alice")
    first, second = [f"#{alice.localpart}.{n}:{alice.server_name}" for n in (1, 2)]
    old = await alice.create_room(room_alias_name=f"{alice.localpart}.1", visibility="public")
    await alice.put("/directory/room/{}", second, json={"room_id": old})
    await alice.put_state(old, "m.room.canonical_alias", {"alias": first, "alt_aliases": [second]})
    new = await upgrade(alice, old)
    for alias in (first, second):
        assert (await alice.get("/directory/room/{}", alias))["room_id"] == new
    assert await alice.state(new, "m.room.canonical_alias") == {"alias": first, "alt_aliases": [second]}
    assert await alice.state(old, "m.room.canonical_alias") == {}
    assert (await alice.get("/rooms/{}/aliases", old))["aliases"] == []


async def test_who_was_banned_stays_banned_and_a_space_keeps_its_rooms(server: Server) -> None:
    """ROOM-25."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    old = await alice.create_room(preset="public_chat", creation_content={"type": "m.space"})
    await alice.put_state(old, "m.space.child", {"via": ["localhost"]}, room)
    await alice.put_state(old, "m.space.child", {}, "!removed:localhost")
    await alice.ban(old, bob, reason="spam")
    new = await upgrade(alice, old)
    assert await alice.state(new, "m.space.child", room) == {"via": ["localhost"]}
    await alice.state(new, "m.space.child", "!removed:localhost", expect=(404, "M_NOT_FOUND"))
    banned = await alice.state(new, "m.room.member", bob.user_id)
    assert (banned["membership"], banned["reason"]) == ("ban", "spam")
    await bob.join(new, expect=(403, "M_FORBIDDEN"))


async def test_join_rules_that_the_new_version_does_not_know_become_narrower(server: Server) -> None:
    """ROOM-25."""
    alice = await server.register("alice")
    allow = [{"type": "m.room_membership", "room_id": "!club:localhost"}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    old = await alice.create_room(room_version="9", initial_state=[rules])
    assert (await alice.state(await upgrade(alice, old, "11"), "m.room.join_rules")) == rules["content"]
    assert await alice.state(await upgrade(alice, old, "6"), "m.room.join_rules") == {"join_rule": "invite"}


async def test_everybody_finds_their_settings_in_the_new_room(server: Server) -> None:
    """ROOM-27."""
    alice, bob = await server.register("alice"), await server.register("bob")
    old = await alice.create_room(preset="public_chat")
    await bob.join(old)
    for user in (alice, bob):
        await user.put("/user/{}/rooms/{}/tags/{}", user.user_id, old, "m.favourite", json={"order": 0.5})
        await user.put("/pushrules/global/room/{}", old, json={"actions": []})
        match = {"kind": "event_match", "key": "room_id", "pattern": old}
        await user.put("/pushrules/global/override/{}", old, json={"actions": [], "conditions": [match]})
        data = {"@carol:localhost": [old]}
        await user.put("/user/{}/account_data/m.direct", user.user_id, json=data)
    new = await upgrade(alice, old)
    await bob.join(new)
    for user in (alice, bob):
        tags = (await user.get("/user/{}/rooms/{}/tags", user.user_id, new))["tags"]
        assert tags == {"m.favourite": {"order": 0.5}}
        assert (await user.get("/pushrules/global/room/{}", new))["actions"] == []
        [condition] = (await user.get("/pushrules/global/override/{}", new))["conditions"]
        assert condition["pattern"] == new
        direct = await user.get("/user/{}/account_data/m.direct", user.user_id)
        assert direct == {"@carol:localhost": [old, new]}


async def test_settings_come_along_whichever_way_the_room_is_replaced_and_joined(server: Server) -> None:
    """ROOM-27: into a room that a client made as the successor of another, also joined by setting one's own membership."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    old = await alice.create_room(preset="public_chat")
    for user in (alice, bob):
        if user is bob:
            await bob.join(old)
        await user.put("/pushrules/global/room/{}", old, json={"actions": []})
    await carol.put("/pushrules/global/room/{}", old, json={"actions": []})
    for predecessor in ({"room_id": old}, {"room_id": old, "event_id": "$any"}):
        new = await alice.create_room(preset="public_chat", creation_content={"predecessor": predecessor})
        for user in (bob, carol):
            await user.put_state(new, "m.room.member", {"membership": "join"}, user.user_id)
        for user in (alice, bob):
            assert (await user.get("/pushrules/global/room/{}", new))["actions"] == []
        await carol.get("/pushrules/global/room/{}", new, expect=404)  # never was in the old room
    for predecessor in (old, {"room_id": 3}, {"room_id": "x"}, None):
        await alice.create_room(creation_content={"predecessor": predecessor})


async def test_settings_of_the_new_room_are_not_overwritten_by_coming_again(server: Server) -> None:
    """ROOM-27."""
    alice, bob = await server.register("alice"), await server.register("bob")
    old = await alice.create_room(preset="public_chat")
    await bob.join(old)
    await bob.put("/user/{}/rooms/{}/tags/{}", bob.user_id, old, "m.favourite", json={})
    new = await upgrade(alice, old)
    await bob.put("/user/{}/rooms/{}/tags/{}", bob.user_id, new, "u.mine", json={})
    await bob.join(new)
    tags = (await bob.get("/user/{}/rooms/{}/tags", bob.user_id, new))["tags"]
    assert tags == {"u.mine": {}}


async def test_upgrades_that_meet_other_messages_wait_for_nobody_and_lose_nothing(server: Server) -> None:
    """ROOM-25: both rooms are written together or not at all."""
    alice, bob = await server.register("alice"), await server.register("bob")
    old = await alice.create_room(preset="public_chat")
    await bob.join(old)
    replies = await asyncio.gather(
        upgrade(alice, old),
        *(
            bob.exchange("PUT", SEND, old, f"x{n}", json={"msgtype": "m.text", "body": "x"}, expect=None)
            for n in range(20)
        ),
    )
    sent = [reply.status for reply in replies[1:]]
    assert set(sent) <= {200, 403}
    assert (await alice.state(old, "m.room.tombstone"))["replacement_room"] == replies[0]


async def test_an_upgrade_that_fails_leaves_nothing_behind(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ROOM-25: neither a new room nor a closed one."""
    assert server.app is not None
    alice = await server.register("alice")
    old = await alice.create_room(room_alias_name=alice.localpart)
    before = {key: event["event_id"] for key, event in (await whole(alice, old)).items()}

    def failing(batch: Any, old_nid: int, new_nid: int) -> None:
        batch.execute("SELECT 1 / 0")

    with monkeypatch.context() as patched:
        patched.setattr(store, "move_room", failing)
        requester = Requester(user_id=UserId(alice.user_id), user_nid=1)
        with pytest.raises(DivisionByZero):
            await server.app.features.rooms.upgrades.upgrade(requester, RoomId(old), "12", [])
    assert {key: event["event_id"] for key, event in (await whole(alice, old)).items()} == before
    assert (await alice.get("/joined_rooms"))["joined_rooms"] == [old]
    new = await upgrade(alice, old)
    assert (await alice.state(old, "m.room.tombstone"))["replacement_room"] == new


async def test_upgrades_at_several_processes_at_once(two_servers_processes: Server) -> None:
    """ROOM-25: each is whole, the last tombstone counts."""
    server = two_servers_processes
    alice, bob = await server.register("alice"), await server.register("bob")
    old = await alice.create_room(preset="public_chat")
    await bob.join(old)
    sending = [
        bob.exchange("PUT", SEND, old, f"x{n}", json={"msgtype": "m.text", "body": "x"}, expect=None)
        for n in range(20)
    ]
    made = (await asyncio.gather(*(upgrade(alice, old) for _ in range(4)), *sending))[:4]
    assert len(set(made)) == 4
    assert (await alice.state(old, "m.room.tombstone"))["replacement_room"] in made
    for new in made:
        assert (await alice.state(str(new), "m.room.create"))["predecessor"]["room_id"] == old
