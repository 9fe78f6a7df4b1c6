# ruff: noqa: RUF001  # letters that look like others are what some of this is about
"""The list of published rooms, who may fill and read it, who may make rooms at all."""

from typing import Any

import pytest

from homeserver.directory.orders import MAX_KEPT, RoomListOrders
from homeserver.runtime.clock import FakeClock
from homeserver.storage.database import Database
from tests.support.server import Server
from tests.support.user import User

LIST, ROOM = "/publicRooms", "/directory/list/room/{}"


async def listed(user: User, **body: Any) -> list[dict[str, Any]]:
    return list((await user.post(LIST, json=body))["chunk"])


async def test_a_published_room_is_shown_as_it_is(fresh_server: Server) -> None:
    """DIR-02"""
    alice, bob = await fresh_server.register("alice"), await fresh_server.register("bob")
    room = await alice.create_room(
        visibility="public", preset="public_chat", room_alias_name="tea", name="Tea", topic="Leaves"
    )
    await alice.put_state(room, "m.room.avatar", {"url": "mxc://localhost/abc"})
    await bob.join(room)
    await alice.create_room(name="Secret")
    [shown] = await listed(bob)
    assert shown == {
        "room_id": room,
        "num_joined_members": 2,
        "world_readable": False,
        "guest_can_join": False,
        "join_rule": "public",
        "name": "Tea",
        "topic": "Leaves",
        "avatar_url": "mxc://localhost/abc",
        "canonical_alias": "#tea:localhost",
    }
    assert (await fresh_server.client.get(LIST))["chunk"] == [shown]


async def test_what_a_room_is_like_is_shown(fresh_server: Server) -> None:
    """DIR-02: who may read and come in, of which type it is; the topic as plain text."""
    alice = await fresh_server.register("alice")
    texts = [{"mimetype": "text/html", "body": "<b>Leaves</b>"}, {"body": "Leaves"}]
    state = {
        "m.room.history_visibility": {"history_visibility": "world_readable"},
        "m.room.guest_access": {"guest_access": "can_join"},
        "m.room.join_rules": {"join_rule": "knock"},
        "m.room.topic": {"topic": "Leaves, as older clients say it", "m.topic": {"m.text": texts}},
    }
    room = await alice.create_room(
        visibility="public",
        creation_content={"type": "org.example.tea"},
        initial_state=[{"type": kind, "content": content} for kind, content in state.items()],
    )
    [shown] = await listed(alice)
    assert shown == {
        "room_id": room,
        "num_joined_members": 1,
        "world_readable": True,
        "guest_can_join": True,
        "join_rule": "knock",
        "room_type": "org.example.tea",
        "topic": "Leaves",
    }


async def test_rooms_are_put_into_the_list_and_taken_out_by_who_may_name_them(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", name=f"Room of {alice.localpart}")
    await bob.join(room)
    assert await bob.get(ROOM, room) == {"visibility": "private"}
    await bob.put(ROOM, room, json={"visibility": "public"}, expect=(403, "M_FORBIDDEN"))
    await alice.put(ROOM, room, json={})
    assert await server.client.get(ROOM, room) == {"visibility": "public"}
    wanted = {"filter": {"generic_search_term": alice.localpart}}
    assert [shown["room_id"] for shown in await listed(bob, **wanted)] == [room]
    await bob.put(ROOM, room, json={"visibility": "private"}, expect=(403, "M_FORBIDDEN"))
    await alice.put(ROOM, room, json={"visibility": "private"})
    assert await listed(bob, **wanted) == []
    await alice.put(ROOM, "!nothing:localhost", json={}, expect=(404, "M_NOT_FOUND"))
    await alice.get(ROOM, "!nothing:localhost", expect=(404, "M_NOT_FOUND"))
    await alice.put(ROOM, room, json={"visibility": "x"}, expect=(400, "M_INVALID_PARAM"))


async def test_the_list_is_searched_by_words_and_types(fresh_server: Server) -> None:
    """DIR-04: rooms without a type are asked for by null."""
    alice = await fresh_server.register("alice")

    async def make(**wish: Any) -> str:
        return await alice.create_room(visibility="public", **wish)

    tea, space = await make(name="Green TEA"), await make(topic="tea", creation_content={"type": "m.space"})
    alias, other = await make(room_alias_name="teapot"), await make(name="Coffee")

    async def found(**wanted: Any) -> set[str]:
        return {shown["room_id"] for shown in await listed(alice, filter=wanted)}

    assert await found(generic_search_term="tea") == {tea, space, alias}
    assert await found(generic_search_term="tea", room_types=["m.space"]) == {space}
    assert await found(room_types=[None]) == {tea, alias, other}
    assert await found(room_types=[]) == set()
    assert await found() == {tea, space, alias, other}
    [shown] = await listed(alice, filter={"room_types": ["m.space"]})
    assert shown["room_type"] == "m.space"


async def test_the_list_is_searched_as_people_write(fresh_server: Server) -> None:
    """DIR-04: whatever the case, accents and width; all words, in any order."""
    alice = await fresh_server.register("alice")
    room = await alice.create_room(visibility="public", name="Küche im Ελλάδα", topic="Привет, ＷＯＲＬＤ")
    for term in ("küche", "KUCHE", "ku\u0308che", "ελλαδα", "привет", "world", "world kuche"):
        shown = await listed(alice, filter={"generic_search_term": term})
        assert [one["room_id"] for one in shown] == [room], term
    assert await listed(alice, filter={"generic_search_term": "world nothing"}) == []


async def test_the_list_comes_in_pages_the_largest_rooms_first(fresh_server: Server) -> None:
    alice, bob = await fresh_server.register("alice"), await fresh_server.register("bob")
    rooms = [await alice.create_room(visibility="public") for _ in range(5)]
    await bob.join(rooms[3])
    seen: list[str] = []
    token = None
    while True:
        page = await alice.get(LIST, params={"limit": 2, "since": token})
        seen += [shown["room_id"] for shown in page["chunk"]]
        assert page["total_room_count_estimate"] == 5
        assert ("prev_batch" in page) is (token is not None)
        token = page.get("next_batch")
        if token is None:
            break
    assert seen[0] == rooms[3]
    assert sorted(seen) == sorted(rooms)
    back = await alice.get(LIST, params={"limit": 2, "since": page["prev_batch"]})
    assert [shown["room_id"] for shown in back["chunk"]] == seen[2:4]
    await alice.get(LIST, params={"since": "nonsense"}, expect=(400, "M_INVALID_PARAM"))
    await alice.get(LIST, params={"server": "localhost:1"}, expect=(502, "M_UNKNOWN"))


async def test_pages_neither_skip_nor_repeat_rooms_while_the_list_changes(
    two_servers_processes: Server, fresh_server: Server
) -> None:
    """DIR-03: people come and go, rooms appear and go, the server starts anew; one process and two."""
    for server in (fresh_server, two_servers_processes):
        alice, bob = await server.register("alice"), await server.register("bob")
        rooms = [
            await alice.create_room(preset="public_chat", visibility="public", name=f"needle {number}")
            for number in range(9)
        ]
        for room in rooms[:4]:
            await bob.join(room)
        wanted = {"limit": 2, "filter": {"generic_search_term": "needle"}}
        seen: list[str] = []
        page: dict[str, Any] = {}
        for number in range(5):
            since = {"since": page["next_batch"]} if page else {}
            page = await alice.post(LIST, json=wanted | since)
            seen += [shown["room_id"] for shown in page["chunk"]]
            # What was first is last now, and the other way round; one room goes, one is new.
            if number < 4:
                await bob.leave(rooms[number])
                await bob.join(rooms[8 - number])
            if number == 2:
                hidden = next(room for room in rooms if room not in seen)
                await alice.put("/directory/list/room/{}", hidden, json={"visibility": "private"})
                await alice.create_room(preset="public_chat", visibility="public", name="needle new")
            if server.app is not None:
                server.app.features.directory.rooms._orders._orders.clear()
        assert "next_batch" not in page
        assert sorted(seen) == sorted(set(rooms) - {hidden})
        back: list[str] = []
        while "prev_batch" in page:
            page = await alice.post(LIST, json=wanted | {"since": page["prev_batch"]})
            back = [shown["room_id"] for shown in page["chunk"]] + back
        assert back == seen[: len(back)]
        forgotten = "p2_" + "0" * 32
        page = await alice.post(LIST, json=wanted | {"since": forgotten})
        assert len(page["chunk"]) == 2


async def test_orders_of_the_list_are_bounded(database: str) -> None:
    """DIR-03: in number and in time; one that is in use stays."""
    clock = FakeClock()
    async with Database(database) as db:
        orders = RoomListOrders(db, clock)
        first = await orders.keep([1])
        for number in range(MAX_KEPT + 20):
            await clock.advance(1)
            last = await orders.keep([number, 1])
        async with db.read() as tx:
            assert await tx.value("SELECT count(*) FROM room_list_orders") == MAX_KEPT
        other = RoomListOrders(db, clock)
        assert await other.find(first) is None
        assert list(await other.find(last) or ()) == [MAX_KEPT + 19, 1]
        await clock.advance(7200)
        await other.keep([5])
        async with db.read() as tx:
            assert await tx.value("SELECT count(*) FROM room_list_orders") == 1


@pytest.mark.parametrize(
    ("read", "anonymous", "member"), [("everybody", 200, 200), ("members", 401, 200), ("nobody", 403, 403)]
)
async def test_who_may_read_the_list(start_server: Any, read: str, anonymous: int, member: int) -> None:
    server = await start_server(rooms={"directory": {"read": read}})
    alice = await server.register("alice")
    await server.client.get(LIST, expect=anonymous)
    await alice.get(LIST, expect=member)
    await alice.post(LIST, json={}, expect=member)


async def test_what_only_administrators_may_do(start_server: Any) -> None:
    server = await start_server(
        rooms={"create": "admins", "alias_create": "admins", "directory": {"publish": "admins"}}
    )
    admin, alice = await server.register("admin"), await server.register("alice")
    accounts = server.app.features.accounts.accounts
    await accounts.set_flags((await accounts.find(admin.user_id)).user_nid, is_admin=True)
    room = await admin.create_room(visibility="public", room_alias_name="room", preset="public_chat")
    await alice.join(room)
    await admin.put_state(room, "m.room.power_levels", {"users": {alice.user_id: 100}})
    await alice.create_room(expect=(403, "M_FORBIDDEN"))
    alias = {"room_id": room}
    await alice.put("/directory/room/{}", "#x:localhost", json=alias, expect=(403, "M_FORBIDDEN"))
    await alice.put(ROOM, room, json={"visibility": "private"})
    await alice.put(ROOM, room, json={"visibility": "public"}, expect=(403, "M_FORBIDDEN"))


async def test_nobody_publishes_where_nobody_may(start_server: Any) -> None:
    server = await start_server(rooms={"directory": {"publish": "nobody"}})
    alice = await server.register("alice")
    await alice.create_room(visibility="public", expect=(403, "M_FORBIDDEN"))
    await alice.create_room(preset="public_chat")


async def test_the_list_follows_its_rooms(fresh_server: Server) -> None:
    """DIR-02: what a room is called, and how many are in it, also when what was said is taken back."""
    alice, bob = await fresh_server.register("alice"), await fresh_server.register("bob")
    room = await alice.create_room(visibility="public", preset="public_chat", name="Before")

    async def listed() -> tuple[str | None, int]:
        (only,) = (await bob.get("/publicRooms"))["chunk"]
        return only.get("name"), only["num_joined_members"]

    assert await listed() == ("Before", 1)
    await bob.join(room)
    assert await listed() == ("Before", 2)
    named = await alice.put_state(room, "m.room.name", {"name": "After"})
    assert await listed() == ("After", 2)
    await alice.redact(room, named)
    assert await listed() == (None, 2)
    await bob.leave(room)
    assert await listed() == (None, 1)


async def test_dir_01_what_is_listed_is_one_thing_and_who_may_join_or_read_another(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    closed = await alice.create_room(
        visibility="public", preset="private_chat", name=f"Closed {alice.localpart}"
    )
    await alice.put_state(closed, "m.room.history_visibility", {"history_visibility": "joined"})
    hidden = await alice.create_room(preset="public_chat", name=f"Open {alice.localpart}")
    await alice.put_state(hidden, "m.room.history_visibility", {"history_visibility": "world_readable"})
    shown = await listed(bob, filter={"generic_search_term": alice.localpart})
    assert [(each["room_id"], each["join_rule"], each["world_readable"]) for each in shown] == [
        (closed, "invite", False)
    ]
    await bob.post("/join/{}", closed, json={}, expect=(403, "M_FORBIDDEN"))
    await bob.join(hidden)
    # Neither changes with the other.
    await alice.put_state(closed, "m.room.join_rules", {"join_rule": "public"})
    await alice.put(ROOM, hidden, json={"visibility": "public"})
    await alice.put(ROOM, closed, json={"visibility": "private"})
    state = await alice.get("/rooms/{}/state/m.room.join_rules", closed)
    assert state == {"join_rule": "public"}
    shown = await listed(bob, filter={"generic_search_term": alice.localpart})
    assert [each["room_id"] for each in shown] == [hidden]


async def test_mod_05_policy_lists_are_state_like_any_other(server: Server) -> None:
    """Bots act on them, this server does not."""
    alice, bob = await server.register("alice"), await server.register("bob")
    policies, room = await alice.create_room(), await alice.create_room(preset="public_chat")
    rule = {"entity": bob.user_id, "recommendation": "m.ban", "reason": "spam"}
    path = "/rooms/{}/state/{}/{}"
    await alice.put(path, policies, "m.policy.rule.user", "rule:bob", json=rule)
    assert await alice.get(path, policies, "m.policy.rule.user", "rule:bob") == rule
    await bob.join(room)
    await bob.send(room, "still here")
