"""The rooms under a room: CHECKLIST SPACE-01 to SPACE-05."""

from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

PATH = "/_matrix/client/v1/rooms/{}/hierarchy"
RESTRICTED = "m.room.join_rules"


async def space(owner: User, **options: Any) -> str:
    return await owner.create_room(creation_content={"type": "m.space"}, preset="public_chat", **options)


async def put_under(owner: User, parent: str, room: str, **content: Any) -> None:
    await owner.put_state(parent, "m.space.child", {"via": ["localhost"], **content}, room)


async def tree(reader: User, root: str, **params: Any) -> list[str]:
    return [room["room_id"] for room in (await reader.get(PATH, root, params=params))["rooms"]]


async def test_the_rooms_under_a_room_are_listed_depth_first_each_once(server: Server) -> None:
    """SPACE-01, SPACE-03: a cycle ends, children stand in their order."""
    alice = await server.register("alice")
    root, sub = await space(alice, name="All"), await space(alice)
    first, second, below = [await alice.create_room(preset="public_chat") for _ in range(3)]
    await put_under(alice, root, second, order="b")
    await put_under(alice, root, sub, order="a")
    await put_under(alice, root, first)
    await put_under(alice, sub, root)
    await put_under(alice, sub, below, order="x")
    await put_under(alice, sub, second, order="y")
    assert await tree(alice, root) == [root, sub, below, second, first]
    shown = (await alice.get(PATH, root))["rooms"]
    assert shown[0]["name"] == "All"
    assert shown[0]["room_type"] == "m.space"
    assert [child["state_key"] for child in shown[0]["children_state"]] == [sub, second, first]
    child = shown[0]["children_state"][0]
    assert set(child) == {"type", "state_key", "content", "sender", "origin_server_ts"}
    assert child["content"] == {"via": ["localhost"], "order": "a"}
    assert shown[2]["children_state"] == []
    assert await tree(alice, root, max_depth=0) == [root]
    assert await tree(alice, root, max_depth=1) == [root, sub, second, first]
    old = "/_matrix/client/unstable/org.matrix.msc2946/rooms/{}/hierarchy"
    assert len((await alice.get(old, sub))["rooms"]) == 5


async def test_children_stand_in_the_order_of_the_specification(server: Server) -> None:
    """SPACE-03: `order` where it is valid, then the time of the event, then the room's id."""
    alice = await server.register("alice")
    root = await space(alice)
    rooms = [await alice.create_room() for _ in range(6)]
    for room, order in zip(rooms, [None, "first", "", "x" * 51, "aaaa", "ä"], strict=True):
        await put_under(alice, root, room, **({} if order is None else {"order": order}))
    later, first, empty, long, aaaa, umlaut = rooms
    assert await tree(alice, root) == [root, aaaa, first, later, empty, long, umlaut]


@pytest.mark.parametrize(
    "content", [{}, {"via": []}, {"via": "localhost"}, {"via": [7]}, {"via": None}, {"via": {"a": 1}}]
)
async def test_what_names_no_servers_is_no_child(server: Server, content: dict[str, Any]) -> None:
    """SPACE-01."""
    alice = await server.register("alice")
    root, room = await space(alice), await alice.create_room()
    await alice.put_state(root, "m.space.child", content, room)
    await alice.put_state(root, "m.space.child", {"via": ["localhost"]}, "no room")
    [shown] = (await alice.get(PATH, root))["rooms"]
    assert shown["children_state"] == []


async def test_a_room_that_is_no_space_has_no_children(server: Server) -> None:
    """SPACE-03."""
    alice = await server.register("alice")
    room, other = await alice.create_room(), await alice.create_room()
    await put_under(alice, room, other)
    [shown] = (await alice.get(PATH, room))["rooms"]
    assert (shown["room_id"], shown["children_state"]) == (room, [])


async def test_only_suggested_rooms_where_they_alone_are_asked_for(server: Server) -> None:
    """SPACE-01."""
    alice = await server.register("alice")
    root, sub = await space(alice), await space(alice)
    a, b = await alice.create_room(), await alice.create_room()
    await put_under(alice, root, sub, suggested=True)
    await put_under(alice, root, a, suggested="yes")
    await put_under(alice, sub, b, suggested=True)
    assert await tree(alice, root, suggested_only="true") == [root, sub, b]
    shown = (await alice.get(PATH, root, params={"suggested_only": "true"}))["rooms"]
    assert [child["state_key"] for child in shown[0]["children_state"]] == [sub]


async def test_a_hierarchy_is_read_in_pages(server: Server) -> None:
    """SPACE-01: a page can be asked for again; a walk does not change its parameters."""
    alice, bob = await server.register("alice"), await server.register("bob")
    root = await space(alice)
    rooms = [await alice.create_room(preset="public_chat") for _ in range(5)]
    for number, room in enumerate(rooms):
        await put_under(alice, root, room, order=str(number))
    first = await bob.get(PATH, root, params={"limit": 2})
    assert [room["room_id"] for room in first["rooms"]] == [root, rooms[0]]
    token = first["next_batch"]
    again = [await bob.get(PATH, root, params={"limit": 2, "from": token}) for _ in range(2)]
    assert again[0]["rooms"] == again[1]["rooms"]
    assert [room["room_id"] for room in again[0]["rooms"]] == rooms[1:3]
    last = await bob.get(PATH, root, params={"limit": 3, "from": again[1]["next_batch"]})
    assert [room["room_id"] for room in last["rooms"]] == rooms[3:]
    assert "next_batch" not in last
    wrong = (400, "M_INVALID_PARAM")
    for changed in ({"suggested_only": "true"}, {"max_depth": 3}):
        await bob.get(PATH, root, params={"from": token, **changed}, expect=wrong)
    await bob.get(PATH, rooms[0], params={"from": token}, expect=wrong)
    await alice.get(PATH, root, params={"from": token}, expect=wrong)
    for nonsense in ("x", "", "00" * 18, "ä", "0" * 5000):
        await bob.get(PATH, root, params={"from": nonsense}, expect=wrong)
    for bad in ({"limit": 0}, {"limit": -1}, {"max_depth": -1}, {"limit": "many"}):
        await bob.get(PATH, root, params=bad, expect=wrong)


@pytest.mark.parametrize(
    ("rule", "history", "version", "shown"),
    [
        ("invite", "shared", "11", False),
        ("public", "joined", "11", True),
        ("invite", "world_readable", "11", True),
        ("knock", "shared", "11", True),
        ("knock", "shared", "6", False),
        ("knock_restricted", "shared", "10", True),
        ("knock_restricted", "shared", "9", False),
        ("private", "shared", "11", False),
    ],
)
async def test_rooms_that_the_reader_could_not_enter_are_left_out(
    server: Server, rule: str, history: str, version: str, shown: bool
) -> None:
    """SPACE-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    root = await space(alice)
    state = [
        {"type": "m.room.join_rules", "content": {"join_rule": rule}},
        {"type": "m.room.history_visibility", "content": {"history_visibility": history}},
    ]
    room = await alice.create_room(initial_state=state, room_version=version)
    await put_under(alice, root, room)
    assert await tree(alice, root) == [root, room]
    assert await tree(bob, root) == ([root, room] if shown else [root])
    if not shown:
        await bob.get(PATH, room, expect=(403, "M_FORBIDDEN"))
        await alice.invite(room, bob)
        assert await tree(bob, room) == [room]


async def test_a_restricted_room_is_shown_to_who_meets_its_condition(server: Server) -> None:
    """SPACE-02, SPACE-05."""
    alice, bob = await server.register("alice"), await server.register("bob")
    root = await space(alice)
    allow = [{"type": "m.room_membership", "room_id": root}]
    rules = {"type": "m.room.join_rules", "content": {"join_rule": "restricted", "allow": allow}}
    encryption = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
    room = await alice.create_room(initial_state=[rules, encryption], room_version="10")
    await put_under(alice, root, room)
    assert await tree(bob, root) == [root]
    await bob.join(root)
    shown = (await bob.get(PATH, root))["rooms"][1]
    assert shown["allowed_room_ids"] == [root]
    assert shown["join_rule"] == "restricted"
    assert shown["encryption"] == "m.megolm.v1.aes-sha2"
    assert shown["room_version"] == "10"
    await alice.ban(room, bob)
    assert await tree(bob, root) == [root]


async def test_what_the_reader_may_not_see_is_refused(server: Server) -> None:
    """SPACE-02: 403, also for a room that does not exist and for who is banned."""
    alice, bob = await server.register("alice"), await server.register("bob")
    root = await space(alice)
    await alice.ban(root, bob)
    for room in (root, "!nothing:localhost", "!nothing"):
        await bob.get(PATH, room, expect=(403, "M_FORBIDDEN"))
    await bob.get(PATH, "nonsense", expect=(400, "M_INVALID_PARAM"))


async def test_two_hundred_rooms_take_few_questions_to_the_database(
    fresh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each room on its own would be hundreds."""
    alice = await fresh_server.register("alice")
    root = await space(alice)
    rooms = [await alice.create_room(preset="public_chat", name=f"Room {n}") for n in range(60)]
    for room in rooms:
        await put_under(alice, root, room)
    assert fresh_server.app is not None
    core = fresh_server.app.core
    core.rooms.reset()
    asked = 0
    read = core.db.read

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return read(*args, **options)

    monkeypatch.setattr(core.db, "read", counted)
    assert len(await tree(alice, root, limit=100)) == 61
    assert asked < 12
