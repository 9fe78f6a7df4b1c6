"""Rooms as they begin: CHECKLIST section 8, ROOM-01 to ROOM-09."""

from typing import Any

import pytest
from psycopg.errors import UniqueViolation

from homeserver.matrix.ids import UserId
from homeserver.rooms import store
from homeserver.rooms.creation import CreateRoom
from homeserver.web.auth import Requester
from tests.support.server import Server
from tests.support.user import User

RULES = ("m.room.join_rules", "m.room.history_visibility", "m.room.guest_access")


async def begun(user: User, **wish: Any) -> tuple[str, list[dict[str, Any]]]:
    """The room, and its first events in their order."""
    room = await user.create_room(**wish)
    return room, (await user.messages(room, dir="f", limit=100))["chunk"]


async def rules(user: User, room: str) -> tuple[str, str, str]:
    keys = ("join_rule", "history_visibility", "guest_access")
    found = [(await user.state(room, kind))[key] for kind, key in zip(RULES, keys, strict=True)]
    return found[0], found[1], found[2]


async def test_the_events_come_in_the_order_of_the_specification(server: Server) -> None:
    """ROOM-01, ROOM-06, ROOM-07, ROOM-09."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room, events = await begun(
        alice,
        preset="public_chat",
        room_alias_name=alice.localpart,
        name="Name",
        topic="Topic",
        invite=[bob.user_id],
        is_direct=True,
        initial_state=[{"type": "org.example.state", "content": {"a": 1}}],
    )
    assert [e["type"] for e in events] == [
        "m.room.create",
        "m.room.member",
        "m.room.power_levels",
        "m.room.canonical_alias",
        *RULES,
        "org.example.state",
        "m.room.name",
        "m.room.topic",
        "m.room.member",
    ]
    assert events[0]["content"]["room_version"] == "12"
    topic = events[-2]["content"]
    assert topic["topic"] == "Topic"
    assert topic["m.topic"]["m.text"] == [{"body": "Topic", "mimetype": "text/plain"}]
    assert events[-1]["state_key"] == bob.user_id
    assert events[-1]["content"] == {"membership": "invite", "is_direct": True} | {
        key: value for key, value in events[-1]["content"].items() if key in ("displayname", "avatar_url")
    }
    alias = f"#{alice.localpart}:{alice.server_name}"
    assert (await bob.get("/directory/room/{}", alias))["room_id"] == room


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"preset": "private_chat"}, ("invite", "shared", "can_join")),
        ({"preset": "trusted_private_chat"}, ("invite", "shared", "can_join")),
        ({"preset": "public_chat"}, ("public", "shared", "forbidden")),
        ({"visibility": "public"}, ("public", "shared", "forbidden")),
        ({"visibility": "private"}, ("invite", "shared", "can_join")),
        ({}, ("invite", "shared", "can_join")),
        ({"visibility": "public", "preset": "private_chat"}, ("invite", "shared", "can_join")),
    ],
)
@pytest.mark.parametrize("version", ["11", "12"])
async def test_presets(server: Server, version: str, wish: dict[str, Any], expected: tuple[str, ...]) -> None:
    """ROOM-02."""
    alice = await server.register("alice")
    room = await alice.create_room(room_version=version, **wish)
    assert await rules(alice, room) == expected


async def test_trusted_people_get_the_level_of_the_creator_in_version_11(server: Server) -> None:
    """ROOM-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="trusted_private_chat", invite=[bob.user_id], room_version="11")
    assert (await alice.state(room, "m.room.power_levels"))["users"] == {alice.user_id: 100, bob.user_id: 100}


async def test_trusted_people_are_creators_in_version_12(server: Server) -> None:
    """ROOM-08: merged without duplicates, and not in `users`."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(
        preset="trusted_private_chat",
        room_version="12",
        invite=[bob.user_id, carol.user_id],
        creation_content={"additional_creators": [bob.user_id]},
    )
    create = await alice.state(room, "m.room.create")
    assert create["additional_creators"] == [bob.user_id, carol.user_id]
    assert "creator" not in create
    levels = await alice.state(room, "m.room.power_levels")
    assert levels["users"] == {}
    assert levels["events"]["m.room.tombstone"] == 150
    await bob.join(room)
    await bob.put_state(room, "m.room.tombstone", {"body": "", "replacement_room": room})


async def test_the_creator_may_not_be_listed_in_version_12(server: Server) -> None:
    """ROOM-05, ROOM-08."""
    alice = await server.register("alice")
    override = {"users": {alice.user_id: 100}}
    await alice.create_room(
        room_version="12", power_level_content_override=override, expect=(400, "M_INVALID_ROOM_STATE")
    )


@pytest.mark.parametrize("version", ["11", "12"])
async def test_what_is_given_overrides_the_preset(server: Server, version: str) -> None:
    """ROOM-03."""
    alice = await server.register("alice")
    room, events = await begun(
        alice,
        preset="private_chat",
        room_version=version,
        name="Given",
        topic="Given too",
        initial_state=[
            {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}},
            {"type": "m.room.name", "content": {"name": "Other"}},
            {"type": "m.room.topic", "content": {"topic": "Other"}},
        ],
        power_level_content_override={"invite": 77, "events_default": 3},
    )
    assert await rules(alice, room) == ("invite", "joined", "can_join")
    assert (await alice.state(room, "m.room.name"))["name"] == "Given"
    assert (await alice.state(room, "m.room.topic"))["topic"] == "Given too"
    levels = await alice.state(room, "m.room.power_levels")
    assert (levels["invite"], levels["events_default"], levels["ban"]) == (77, 3, 50)
    kinds = [event["type"] for event in events]
    assert len(kinds) == len(set(kinds))


@pytest.mark.parametrize(("version", "creator"), [("10", True), ("11", False), ("12", False)])
async def test_the_client_does_not_say_who_created_what(server: Server, version: str, creator: bool) -> None:
    """ROOM-04."""
    alice = await server.register("alice")
    claimed = {"creator": "@eve:example.org", "room_version": "1", "m.federate": False, "type": "m.space"}
    room = await alice.create_room(room_version=version, creation_content=claimed)
    create = await alice.state(room, "m.room.create")
    assert create["room_version"] == version
    assert create.get("creator") == (alice.user_id if creator else None)
    assert (create["m.federate"], create["type"]) == (False, "m.space")


async def test_refusals(server: Server) -> None:
    """ROOM-05."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await alice.create_room(room_version="99", expect=(400, "M_UNSUPPORTED_ROOM_VERSION"))
    await alice.create_room(room_alias_name=alice.localpart)
    await bob.create_room(room_alias_name=alice.localpart, expect=(400, "M_ROOM_IN_USE"))
    await alice.create_room(invite=["bob"], expect=(400, "M_INVALID_PARAM"))
    unworkable = {"users": {bob.user_id: 100}}
    await alice.create_room(
        room_version="11",
        name="x",
        power_level_content_override=unworkable,
        expect=(400, "M_INVALID_ROOM_STATE"),
    )
    before = (await alice.get("/joined_rooms"))["joined_rooms"]
    assert len(before) == 1


@pytest.mark.parametrize("version", ["9", "11", "12"])
async def test_power_levels_that_are_no_numbers_are_refused(server: Server, version: str) -> None:
    """ROOM-29, ROOM-28."""
    alice = await server.register("alice")
    room = await alice.create_room(room_version=version)
    levels = await alice.state(room, "m.room.power_levels")
    wrong: list[dict[str, Any]] = [
        {"ban": "50"},
        {"users": {alice.user_id: "100"}},
        {"events": []},
        {"users": {"nobody": 1}},
    ]
    for bad in wrong:
        await alice.put_state(room, "m.room.power_levels", {**levels, **bad}, expect=400)
    assert await alice.state(room, "m.room.power_levels") == levels
    await alice.send_event(room, "m.room.message", {"body": "no type"}, expect=400)
    await alice.send_event(room, "m.room.message", {"msgtype": "m.text", "body": 3}, expect=400)


async def test_only_the_alias_is_called_taken(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """ROOM-05: another constraint that is run into is a fault of the server, and is said to be one."""
    assert server.app is not None
    alice = await server.register("alice")

    def clash(batch: Any, room_nid: int) -> None:
        insert = "INSERT INTO users (user_id) VALUES (%(user)s)"
        batch.execute(insert, user=alice.user_id)

    monkeypatch.setattr(store, "add_published", clash)
    requester = Requester(user_id=UserId(alice.user_id), user_nid=1)
    with pytest.raises(UniqueViolation):
        await server.app.features.rooms.creation.create(requester, CreateRoom(visibility="public"))


async def test_what_the_rules_allow_to_nobody_is_a_malformed_request(server: Server) -> None:
    """AUTH rules 1 and 10.4: 400 for the creator too, who may send anything; 403 is for who lacks the power (ROOM-05)."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(room_version="12", preset="public_chat")
    await bob.join(room)
    levels = {"users": {alice.user_id: 100}}
    await alice.put_state(room, "m.room.power_levels", levels, expect=(400, "M_BAD_JSON"))
    await bob.put_state(room, "m.room.power_levels", {"users": {}}, expect=(403, "M_FORBIDDEN"))
    await alice.create_room(
        room_version="12", power_level_content_override=levels, expect=(400, "M_INVALID_ROOM_STATE")
    )
    for version in ("1", "11", "12"):
        room = await alice.create_room(room_version=version)
        await alice.put_state(room, "m.room.create", {"creator": alice.user_id}, expect=(400, "M_BAD_JSON"))
