"""Simplified sliding sync (MSC4186): what a client on one connection is told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
Reply = dict[str, Any]


@dataclass
class Connection:
    """A client's connection: what it asks for and where it is."""

    user: User
    lists: dict[str, Any] = field(default_factory=dict)
    subscriptions: dict[str, Any] = field(default_factory=dict)
    extensions: dict[str, Any] = field(default_factory=dict)
    name: str = "main"
    pos: str | None = None

    def body(self) -> dict[str, Any]:
        return {
            "conn_id": self.name,
            "lists": self.lists,
            "room_subscriptions": self.subscriptions,
            "extensions": {key: {"enabled": True, **value} for key, value in self.extensions.items()},
        }

    async def ask(self, *, timeout: int = 0, pos: str | None = None, expect: int = 200) -> Reply:
        """One request; where the connection is stays the same."""
        params = {"timeout": timeout, "pos": pos or self.pos}
        return dict(await self.user.post(PATH, json=self.body(), params=params, expect=expect))

    async def sync(self, **options: Any) -> Reply:
        """One request, and on from its answer."""
        reply = await self.ask(**options)
        self.pos = reply["pos"]
        return reply


def everything(limit: int = 10, state: list[list[str]] | None = None, **config: Any) -> dict[str, Any]:
    """A list of all rooms."""
    return {"all": {"ranges": [[0, 99]], "timeline_limit": limit, "required_state": state or [], **config}}


def bodies(room: Reply) -> list[str]:
    return [e["content"]["body"] for e in room.get("timeline", ()) if e["type"] == "m.room.message"]


def keys(room: Reply) -> set[tuple[str, str]]:
    return {(e["type"], e["state_key"]) for e in room.get("required_state", ())}


async def two(server: Server) -> tuple[User, User]:
    return await server.register("alice"), await server.register("bob")


async def test_a_first_answer_tells_rooms_and_the_next_one_only_news(server: Server) -> None:
    alice, bob = await two(server)
    room = await alice.create_room(preset="public_chat", name="Garden", topic="Plants")
    await bob.join(room)
    await alice.send(room, "one")
    client = Connection(bob, everything(2, [["m.room.create", ""], ["m.room.member", "$ME"]]))
    first = await client.sync()
    told = first["rooms"][room]
    assert first["lists"] == {"all": {"count": 1}}
    assert (told["initial"], told["name"], told["membership"]) == (True, "Garden", "join")
    assert (told["joined_count"], told["invited_count"]) == (2, 0)
    assert keys(told) == {("m.room.create", ""), ("m.room.member", bob.user_id)}
    assert bodies(told) == ["one"]
    assert len(told["timeline"]) == 2
    assert (told["limited"], told["num_live"], told["notification_count"]) == (True, 0, 1)
    assert told["lists"] == ["all"]
    assert (await client.sync())["rooms"] == {}
    await alice.send(room, "two")
    news = (await client.sync())["rooms"][room]
    assert bodies(news) == ["two"]
    assert (news["num_live"], news["limited"], news["notification_count"]) == (1, False, 2)
    assert news["bump_stamp"] > told["bump_stamp"]
    assert not {"initial", "name", "heroes", "required_state", "joined_count"} & news.keys()
    page = await bob.messages(room, from_=told["prev_batch"], limit=50)
    assert page["chunk"][-1]["type"] == "m.room.create"


async def test_a_long_poll_ends_with_news_and_not_without(server: Server) -> None:
    alice, bob = await two(server)
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    client = Connection(bob, everything())
    await client.sync()
    waiting = asyncio.create_task(client.ask(timeout=20_000))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    await alice.send(room, "hello")
    assert bodies((await waiting)["rooms"][room]) == ["hello"]


async def test_the_same_position_twice_gives_the_same(server: Server) -> None:
    alice, bob = await two(server)
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    client = Connection(bob, {"all": {"ranges": [[0, 0]], "timeline_limit": 5, "required_state": []}})
    await client.sync()
    other = await alice.create_room(preset="public_chat", name="Other")
    await bob.join(other)
    await alice.send(room, "x")
    one, two_ = await client.ask(), await client.ask()
    assert one["rooms"].keys() == two_["rooms"].keys() == {room}
    assert bodies(one["rooms"][room]) == bodies(two_["rooms"][room]) == ["x"]
    client.pos = two_["pos"]
    assert (await client.sync())["rooms"] == {}


async def test_unknown_positions_and_those_of_others(server: Server) -> None:
    alice, bob = await two(server)
    await alice.create_room()
    of_alice, of_bob = Connection(alice, everything()), Connection(bob, everything())
    await of_alice.sync()
    for pos in ("nothing", "s1~1", "s99999999999~1", "-1", of_alice.pos or ""):
        refused = await of_bob.ask(pos=pos, expect=400)
        assert refused["errcode"] == "M_UNKNOWN_POS"
    of_alice.name = "another"
    assert (await of_alice.ask(expect=400))["errcode"] == "M_UNKNOWN_POS"


async def test_an_older_position_ends_with_what_came_after_it(server: Server) -> None:
    """The client has come back with a later one: what was before it is forgotten."""
    alice = await server.register("alice")
    client = Connection(alice, everything())
    positions: list[str] = []
    for _ in range(4):
        await alice.create_room()
        await client.sync()
        positions.append(client.pos or "")
    await client.sync()
    assert (await client.ask(pos=positions[0], expect=400))["errcode"] == "M_UNKNOWN_POS"


async def test_windows_grow_and_shrink(server: Server) -> None:
    alice = await server.register("alice")
    rooms = [await alice.create_room(name=f"room {n}") for n in range(6)]
    client = Connection(alice, {"some": {"ranges": [[0, 1]], "timeline_limit": 1, "required_state": []}})
    first = await client.sync()
    assert first["lists"]["some"]["count"] == 6
    assert set(first["rooms"]) == {rooms[5], rooms[4]}
    client.lists["some"]["ranges"] = [[0, 3]]
    assert set((await client.sync())["rooms"]) == {rooms[3], rooms[2]}
    client.lists["some"]["ranges"] = [[0, 0]]
    assert (await client.sync())["rooms"] == {}
    await alice.send(rooms[4], "a")
    await alice.send(rooms[3], "b")  # pushes the other out of the window before it was told
    assert set((await client.sync())["rooms"]) == {rooms[3]}
    client.lists["some"]["range"] = [0, 9]
    back = (await client.sync())["rooms"]
    assert set(back) == {rooms[4], rooms[1], rooms[0]}
    assert bodies(back[rooms[4]]) == ["a"]
    assert "initial" not in back[rooms[4]]
    assert back[rooms[0]]["initial"] is True


async def test_more_events_and_other_state_are_wanted(server: Server) -> None:
    alice = await server.register("alice")
    room = await alice.create_room(name="Name", topic="Topic")
    for n in range(5):
        await alice.send(room, str(n))
    client = Connection(alice, everything(1, [["m.room.create", ""]]))
    assert bodies((await client.sync())["rooms"][room]) == ["4"]
    client.subscriptions = {room: {"timeline_limit": 3, "required_state": []}}
    more = (await client.sync())["rooms"][room]
    assert bodies(more) == ["2", "3", "4"]
    assert (more["expanded_timeline"], more["num_live"], more.get("initial")) == (True, 0, None)
    assert (await client.sync())["rooms"] == {}
    client.subscriptions[room]["required_state"] = [["m.room.topic", ""]]
    topic = (await client.sync())["rooms"][room]
    assert keys(topic) == {("m.room.topic", "")}
    assert "timeline" not in topic
    assert (await client.sync())["rooms"] == {}
    await alice.put_state(room, "m.room.topic", {"topic": "Another"})
    changed = (await client.sync())["rooms"][room]
    assert changed["required_state"][0]["content"]["topic"] == "Another"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([["*", "*"]], {"m.room.create", "m.room.name", "m.room.member", "m.room.power_levels", "x"}),
        ([["m.room.member", "*"]], {"m.room.member"}),
        ([["*", "key"]], {"x"}),
        ([["x", "key"], ["m.room.name", ""]], {"x", "m.room.name"}),
        ([], set()),
    ],
)
async def test_which_state_is_told(server: Server, wanted: list[list[str]], found: set[str]) -> None:
    alice = await server.register("alice")
    room = await alice.create_room(name="Name")
    await alice.put_state(room, "x", {"a": 1}, "key")
    told = (await Connection(alice, everything(1, wanted)).sync())["rooms"][room]
    kinds = {kind for kind, _ in keys(told)}
    assert kinds >= found
    assert kinds == found or wanted == [["*", "*"]]


async def test_members_are_loaded_lazily(server: Server) -> None:
    alice, bob = await two(server)
    carol = await server.register("carol")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await carol.join(room)
    await alice.send(room, "one")
    client = Connection(alice, everything(1, [["m.room.member", "$LAZY"]]))
    told = (await client.sync())["rooms"][room]
    assert keys(told) == {("m.room.member", alice.user_id)}
    await bob.send(room, "two")
    assert keys((await client.sync())["rooms"][room]) == {("m.room.member", bob.user_id)}
    await bob.send(room, "three")
    assert keys((await client.sync())["rooms"][room]) == set()
    await carol.leave(room)
    assert keys((await client.sync())["rooms"][room]) == {("m.room.member", carol.user_id)}


async def test_names_pictures_and_heroes(server: Server) -> None:
    alice, bob = await two(server)
    await bob.put("/profile/{}/displayname", bob.user_id, json={"displayname": "Bob"})
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    client = Connection(alice, everything(0))
    told = (await client.sync())["rooms"][room]
    assert told["heroes"] == [{"user_id": bob.user_id, "displayname": "Bob"}]
    assert "name" not in told
    assert "timeline" not in told
    await alice.put_state(room, "m.room.name", {"name": "Called"})
    await alice.put_state(room, "m.room.avatar", {"url": "mxc://a/b"})
    news = (await client.sync())["rooms"][room]
    assert (news["name"], news["avatar"]) == ("Called", "mxc://a/b")
    assert "required_state" not in news
    await alice.put_state(room, "m.room.name", {})
    gone = (await client.sync())["rooms"][room]
    assert gone["name"] is None
    assert gone["heroes"][0]["user_id"] == bob.user_id


async def test_invites_and_knocks_show_stripped_state(server: Server) -> None:
    alice, bob = await two(server)
    client = Connection(
        bob,
        {
            **everything(),
            "invites": {
                "ranges": [[0, 9]],
                "timeline_limit": 0,
                "required_state": [],
                "filters": {"is_invite": True},
            },
        },
    )
    await client.sync()
    room = await alice.create_room(name="Secret place")
    await alice.invite(room, bob)
    told = await client.sync()
    invite = told["rooms"][room]
    assert told["lists"] == {"all": {"count": 1}, "invites": {"count": 1}}
    assert set(invite["lists"]) == {"all", "invites"}
    assert invite["membership"] == "invite"
    names = [e["content"].get("name") for e in invite["invite_state"] if e["type"] == "m.room.name"]
    assert names == ["Secret place"]
    assert invite["name"] == "Secret place"
    assert not {"timeline", "required_state", "joined_count"} & invite.keys()
    assert (await client.sync())["rooms"] == {}
    await bob.join(room)
    joined = await client.sync()
    assert joined["lists"]["invites"]["count"] == 0
    assert joined["rooms"][room]["initial"] is True
    assert joined["rooms"][room]["name"] == "Secret place"
    knocking = await alice.create_room(
        initial_state=[{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}]
    )
    await bob.post("/knock/{}", knocking, json={})
    assert (await client.sync())["rooms"][knocking]["membership"] == "knock"


async def test_rooms_left_and_rooms_one_was_removed_from(server: Server) -> None:
    alice, bob = await two(server)
    left, kicked, banned = [await alice.create_room(preset="public_chat") for _ in range(3)]
    for room in (left, kicked, banned):
        await bob.join(room)
    client = Connection(bob, everything(5, [["m.room.member", "$ME"]]))
    await client.sync()
    await bob.leave(left)
    await alice.kick(kicked, bob)
    await alice.ban(banned, bob)
    await alice.send(kicked, "nobody hears this")
    news = await client.sync()
    assert {room: told["membership"] for room, told in news["rooms"].items()} == {
        left: "leave",
        kicked: "leave",
        banned: "ban",
    }
    assert all(
        told["required_state"][0]["content"]["membership"] in ("leave", "ban")
        for told in news["rooms"].values()
    )
    assert "nobody hears" not in str(news)
    after = await client.sync()
    assert after["rooms"] == {}
    assert after["lists"]["all"]["count"] == 2
    afresh = await Connection(bob, everything(), name="fresh").sync()
    assert set(afresh["rooms"]) == {kicked, banned}
    assert "nobody hears" not in str(afresh)
    await bob.join(kicked)
    again = (await client.sync())["rooms"][kicked]
    assert again["initial"] is True
    assert bodies(again) == ["nobody hears this"]


async def test_subscriptions_to_rooms_that_one_may_not_see_are_ignored(server: Server) -> None:
    """MSC4186, "Subscriptions": who subscribes is in the room, invited, or knocks; whatever else is named is not told of."""
    alice, bob = await two(server)
    left, strange, invited = [await alice.create_room(preset="public_chat") for _ in range(3)]
    await bob.join(left)
    await bob.leave(left)
    await alice.invite(invited, bob)
    wish = {"timeline_limit": 5, "required_state": [["*", "*"]]}
    rooms = (left, strange, invited, "!nothing:localhost", "nonsense")
    client = Connection(bob, subscriptions=dict.fromkeys(rooms, wish))
    assert set((await client.sync())["rooms"]) == {invited}
    for room in (left, strange):
        await alice.send(room, "not for bob")
    assert (await client.sync())["rooms"] == {}
    await bob.join(left)
    told = (await client.sync())["rooms"]
    assert set(told) == {left}
    assert told[left]["initial"] is True


async def test_filters(server: Server) -> None:
    alice, bob = await two(server)
    plain = await alice.create_room(name="Plain Café")
    secret = await alice.create_room(
        initial_state=[
            {"type": "m.room.encryption", "state_key": "", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}
        ]
    )
    space = await alice.create_room(creation_content={"type": "m.space"}, name="Space")
    await alice.put_state(space, "m.space.child", {"via": ["localhost"]}, plain)
    await alice.put("/user/{}/account_data/m.direct", alice.user_id, json={bob.user_id: [secret]})
    await alice.put("/user/{}/rooms/{}/tags/{}", alice.user_id, plain, "m.favourite", json={})
    expected: list[tuple[dict[str, Any], set[str]]] = [
        ({"is_dm": True}, {secret}),
        ({"is_dm": False}, {plain, space}),
        ({"is_encrypted": True}, {secret}),
        ({"is_encrypted": False}, {plain, space}),
        ({"room_types": ["m.space"]}, {space}),
        ({"room_types": [None]}, {plain, secret}),
        ({"not_room_types": ["m.space"]}, {plain, secret}),
        ({"room_types": [None], "not_room_types": [None]}, set()),
        ({"room_name_like": "CAFE"}, {plain}),
        ({"tags": ["m.favourite"]}, {plain}),
        ({"not_tags": ["m.favourite"]}, {secret, space}),
        ({"spaces": [space]}, {plain}),
        ({"spaces": ["!unknown:localhost"]}, set()),
        ({"is_invited": True}, set()),
        ({"is_invite": False}, {plain, secret, space}),
    ]
    for number, (filters, rooms) in enumerate(expected):
        told = await Connection(alice, everything(1, filters=filters), name=str(number % 3)).sync()
        assert set(told["rooms"]) == rooms, filters
        assert told["lists"]["all"]["count"] == len(rooms)
    client = Connection(alice, everything(1, filters={"is_dm": True}))
    assert (await client.sync())["rooms"][secret]["is_dm"] is True
    await alice.put("/user/{}/account_data/m.direct", alice.user_id, json={bob.user_id: [secret, plain]})
    assert (await client.sync())["rooms"][plain]["is_dm"] is True
    await alice.put("/user/{}/account_data/m.direct", alice.user_id, json={})
    assert (await client.sync())["lists"]["all"]["count"] == 0
    client.lists = everything(1)
    changed = (await client.sync())["rooms"]
    assert changed[secret]["is_dm"] is False
    await alice.put_state(plain, "m.room.name", {"name": "Other"})
    told = await Connection(alice, everything(1, filters={"room_name_like": "cafe"}), name="0").sync()
    assert told["rooms"] == {}


async def test_counts_follow_reading_elsewhere(server: Server) -> None:
    alice, bob = await two(server)
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    event = await alice.send(room, f"hello {bob.user_id}", **{"m.mentions": {"user_ids": [bob.user_id]}})
    client = Connection(bob, everything())
    told = (await client.sync())["rooms"][room]
    assert (told["notification_count"], told["highlight_count"]) == (1, 1)
    await bob.post("/rooms/{}/receipt/m.read/{}", room, event, json={})
    assert (await client.sync())["rooms"][room]["notification_count"] == 0


async def test_extensions(server: Server) -> None:
    alice, bob = await two(server)
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    event = await alice.send(room, "hello")
    await bob.put("/user/{}/account_data/some.data", bob.user_id, json={"a": 1})
    await bob.put("/user/{}/rooms/{}/account_data/of.room", bob.user_id, room, json={"b": 1})
    await alice.post("/rooms/{}/receipt/m.read/{}", room, event, json={})
    names = ("to_device", "e2ee", "account_data", "receipts", "typing")
    client = Connection(bob, everything(), extensions={name: {} for name in names})
    first = (await client.sync())["extensions"]
    assert {each["type"] for each in first["account_data"]["global"]} >= {"some.data", "m.push_rules"}
    assert [each["type"] for each in first["account_data"]["rooms"][room]] == ["of.room"]
    assert event in first["receipts"]["rooms"][room]["content"]
    assert first["e2ee"]["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert first["to_device"]["events"] == []
    client.extensions["to_device"] = {"since": first["to_device"]["next_batch"]}
    quiet = (await client.sync())["extensions"]
    assert not {"account_data", "receipts", "typing"} & quiet.keys()
    await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 30_000})
    await bob.put("/user/{}/rooms/{}/account_data/of.room", bob.user_id, room, json={"b": 2})
    message = {"messages": {bob.user_id: {"*": {"x": 1}}}}
    await alice.put("/sendToDevice/{}/{}", "m.test", "t1", json=message)
    news = (await client.sync())["extensions"]
    assert news["typing"]["rooms"][room]["content"]["user_ids"] == [alice.user_id]
    assert news["account_data"]["rooms"][room][0]["content"] == {"b": 2}
    assert news["to_device"]["events"][0]["content"] == {"x": 1}
    again = (await client.sync())["extensions"]
    assert len(again["to_device"]["events"]) == 1  # nobody has said that it arrived
    client.extensions["to_device"] = {"since": news["to_device"]["next_batch"]}
    assert (await client.sync())["extensions"]["to_device"]["events"] == []
    client.extensions["to_device"] = {}
    assert (await client.sync())["extensions"]["to_device"]["events"] == []
    other = await alice.create_room(preset="public_chat")
    await bob.put("/user/{}/rooms/{}/account_data/of.room", bob.user_id, other, json={"c": 1})
    await client.sync()
    await bob.join(other)
    joined = (await client.sync())["extensions"]
    assert joined["account_data"]["rooms"][other][0]["content"] == {"c": 1}


async def test_extensions_of_some_rooms(server: Server) -> None:
    alice = await server.register("alice")
    one, two_ = await alice.create_room(), await alice.create_room()
    for room in (one, two_):
        await alice.put("/user/{}/rooms/{}/account_data/of.room", alice.user_id, room, json={})
    client = Connection(
        alice,
        everything(),
        {one: {"timeline_limit": 1, "required_state": []}},
        {"account_data": {"lists": [], "rooms": [one]}},
    )
    assert set((await client.sync())["extensions"]["account_data"]["rooms"]) == {one}
    client.extensions["account_data"] = {"lists": ["all"]}
    assert set((await client.sync())["extensions"]["account_data"]["rooms"]) == {two_}
    assert "account_data" not in (await client.sync())["extensions"]


async def test_connections_of_a_device_do_not_disturb_each_other(server: Server) -> None:
    alice, bob = await two(server)
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    main = Connection(bob, everything())
    other = Connection(bob, name="encryption", extensions={"to_device": {}})
    assert set((await main.sync())["rooms"]) == {room}
    assert (await other.sync())["rooms"] == {}
    await alice.send(room, "x")
    assert bodies((await main.sync())["rooms"][room]) == ["x"]
    assert (await other.sync())["rooms"] == {}


async def test_who_is_ignored_is_not_heard(server: Server) -> None:
    alice, bob = await two(server)
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    client = Connection(bob, everything())
    await client.sync()
    data = {"ignored_users": {alice.user_id: {}}}
    await bob.put("/user/{}/account_data/m.ignored_user_list", bob.user_id, json=data)
    await client.sync()
    await alice.send(room, "x")
    assert bodies((await client.sync())["rooms"].get(room, {})) == []


@pytest.mark.parametrize(
    "body",
    [
        {"lists": {str(n): {} for n in range(101)}},
        {"lists": {"x" * 65: {}}},
        {"lists": {"a": {"ranges": [[0, 1]] * 21}}},
        {"lists": {"a": {"ranges": [[3, 1]]}}},
        {"lists": {"a": {"ranges": [[-1, 1]]}}},
        {"lists": {"a": {"ranges": [[1]]}}},
        {"lists": {"a": {"timeline_limit": -1}}},
        {"lists": {"a": {"timeline_limit": "1"}}},
        {"lists": {"a": {"required_state": [["a", "b"]] * 201}}},
        {"lists": {str(n): {"required_state": [["a", "b"]] * 200} for n in range(30)}},
        {"lists": {"a": {"required_state": [["a" * 256, "b"]]}}},
        {"lists": {"a": {"filters": {"spaces": ["!a:b"] * 101}}}},
        {"lists": {"a": {"filters": {"room_name_like": "a" * 256}}}},
        {"lists": {"a": {"filters": {"is_dm": "yes"}}}},
        {"room_subscriptions": {f"!{n}:b": {} for n in range(501)}},
        {"conn_id": "c" * 65},
        {"extensions": {"receipts": {"enabled": True, "rooms": ["!a:b"] * 1001}}},
        {"extensions": {"to_device": {"enabled": True, "since": "nonsense"}}},
        {"lists": []},
        [],
    ],
)
async def test_what_is_too_much_or_malformed_is_refused(server: Server, body: Any) -> None:
    alice = await server.register("alice")
    refused = await alice.post(PATH, json=body, expect=400)
    assert refused["errcode"] in ("M_INVALID_PARAM", "M_BAD_JSON")


async def test_an_empty_request_is_answered(server: Server) -> None:
    alice = await server.register("alice")
    await alice.create_room()
    assert (await alice.post(PATH, json={}))["rooms"] == {}
