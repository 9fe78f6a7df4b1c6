"""Account data and tags: CHECKLIST section 16."""

import pytest

from tests.support.server import Server

GLOBAL = "/user/{}/account_data/{}"
ROOM = "/user/{}/rooms/{}/account_data/{}"
TAG = "/user/{}/rooms/{}/tags/{}"


async def test_account_data_is_its_owners_alone(server: Server) -> None:
    """AD-01, SYNC-17."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await alice.sync()
    await alice.put(GLOBAL, alice.user_id, "org.example", json={"a": 1})
    assert await alice.get(GLOBAL, alice.user_id, "org.example") == {"a": 1}
    told = (await alice.sync())["account_data"]["events"]
    assert told == [{"type": "org.example", "content": {"a": 1}}]
    await bob.get(GLOBAL, alice.user_id, "org.example", expect=(403, "M_FORBIDDEN"))
    await bob.put(GLOBAL, alice.user_id, "org.example", json={}, expect=(403, "M_FORBIDDEN"))
    await alice.get(GLOBAL, alice.user_id, "org.unknown", expect=(404, "M_NOT_FOUND"))
    await alice.put(GLOBAL, alice.user_id, "org.example", json=[1], expect=(400, "M_BAD_JSON"))


@pytest.mark.parametrize("kind", ["m.fully_read", "m.push_rules"])
async def test_what_the_server_manages_is_not_put(server: Server, kind: str) -> None:
    """AD-02."""
    alice = await server.register("alice")
    room = await alice.create_room()
    await alice.put(GLOBAL, alice.user_id, kind, json={}, expect=(405, "M_BAD_JSON"))
    await alice.put(ROOM, alice.user_id, room, kind, json={}, expect=(405, "M_BAD_JSON"))


async def test_push_rules_can_be_read_as_account_data_before_any_was_changed(server: Server) -> None:
    """AD-02."""
    alice = await server.register("alice")
    assert await alice.get(GLOBAL, alice.user_id, "m.push_rules") == await alice.get("/pushrules/")
    await alice.put("/pushrules/global/room/{}", "!a:b", json={"actions": []})
    assert await alice.get(GLOBAL, alice.user_id, "m.push_rules") == await alice.get("/pushrules/")


async def test_rooms_need_a_valid_id_and_no_membership(server: Server) -> None:
    """AD-03, EPH-07."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await bob.create_room()
    await alice.put(ROOM, alice.user_id, "nonsense", "x", json={}, expect=(400, "M_INVALID_PARAM"))
    await alice.put(ROOM, alice.user_id, room, "m.marked_unread", json={"unread": True})
    assert await alice.get(ROOM, alice.user_id, room, "m.marked_unread") == {"unread": True}


async def test_tags_are_room_account_data(server: Server) -> None:
    """AD-04."""
    alice = await server.register("alice")
    room = await alice.create_room()
    await alice.sync()
    await alice.put(TAG, alice.user_id, room, "u.work", json={"order": 0.25})
    section = (await alice.sync())["rooms"]["join"][room]["account_data"]["events"]
    assert section == [{"type": "m.tag", "content": {"tags": {"u.work": {"order": 0.25}}}}]
    await alice.put(TAG, alice.user_id, room, "u." + "x" * 254, json={}, expect=400)
    for order in (2, -1, "first"):
        await alice.put(TAG, alice.user_id, room, "u.work", json={"order": order}, expect=400)
    await alice.delete(TAG, alice.user_id, room, "u.work")
    assert (await alice.get("/user/{}/rooms/{}/tags", alice.user_id, room))["tags"] == {}
