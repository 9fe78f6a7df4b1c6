"""Simplified sliding sync where MSC4186 has it since it was accepted: `/v4/sync`, all in the body, state by `include` and
`exclude`, stubs of state that is there no longer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from homeserver.sync.sliding import required_state
from homeserver.sync.sliding.request import StableRequest
from homeserver.sync.sliding.service import Asked
from homeserver.web.auth import Requester
from tests.integration.sync.test_branches import world
from tests.support.forks import Fork, receive
from tests.support.graph import Process, process
from tests.support.server import Server
from tests.support.user import User

PATH = "/_matrix/client/v4/sync"
Reply = dict[str, Any]
CREATE, NAME, TOPIC, MEMBER = "m.room.create", "m.room.name", "m.room.topic", "m.room.member"


def of_all(include: list[Reply], exclude: list[Reply] | None = None, **config: Any) -> Reply:
    """A list of all rooms with this state."""
    state = {"include": include, "exclude": exclude or []}
    if "lazy_members" in config:
        state["lazy_members"] = config.pop("lazy_members")
    return {"range": [0, 99], "timeline_limit": 5, "required_state": state, **config}


def keys(room: Reply) -> set[tuple[str, str]]:
    return {(event["type"], event["state_key"]) for event in room.get("required_state", ())}


async def two_in_a_room(server: Server) -> tuple[User, User, str]:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat", name="Garden", topic="Plants")
    await bob.join(room)
    return alice, bob, room


async def test_everything_stands_in_the_body(server: Server) -> None:
    alice, bob, room = await two_in_a_room(server)
    body: Reply = {"conn_id": "main", "lists": {"all": of_all([{"type": CREATE, "state_key": ""}])}}
    first = await bob.post(PATH, json=body)
    assert first["rooms"][room]["initial"] is True
    assert keys(first["rooms"][room]) == {(CREATE, "")}
    await alice.send(room, "hello")
    news = await bob.post(
        PATH, json={**body, "pos": first["pos"], "timeout": 20_000, "set_presence": "offline"}
    )
    assert [event["content"]["body"] for event in news["rooms"][room]["timeline"]] == ["hello"]
    # What the older endpoint takes from the query is nothing here.
    again = await bob.post(PATH, json=body, params={"pos": first["pos"]})
    assert again["rooms"][room]["initial"] is True


async def test_state_is_included_and_excluded(server: Server) -> None:
    alice, bob, room = await two_in_a_room(server)

    async def state(**config: Any) -> set[tuple[str, str]]:
        config.setdefault("include", [{}])
        return keys((await bob.post(PATH, json={"lists": {"all": of_all(**config)}}))["rooms"][room])

    everything = await state()
    members = {(MEMBER, alice.user_id), (MEMBER, bob.user_id)}
    assert {(CREATE, ""), (NAME, ""), (TOPIC, ""), *members} <= everything
    assert await state(include=[]) == set()
    assert await state(include=[{"type": MEMBER}]) == members
    assert await state(include=[{"state_key": bob.user_id}]) == {(MEMBER, bob.user_id)}
    assert await state(exclude=[{"type": CREATE, "state_key": ""}]) == everything - {(CREATE, "")}
    assert await state(exclude=[{"type": MEMBER}]) == everything - members
    assert await state(exclude=[{"state_key": ""}]) == members
    assert await state(include=[{"type": NAME}, {"type": TOPIC}], exclude=[{"type": NAME}]) == {(TOPIC, "")}
    assert await state(exclude=[{}]) == set()


async def test_members_that_are_loaded_lazily_are_not_excluded(server: Server) -> None:
    alice, bob, room = await two_in_a_room(server)
    for number in range(6):
        await alice.send(room, str(number))
    wanted = of_all([{}], [{"type": MEMBER}, {"type": TOPIC}], lazy_members=True)
    told = (await bob.post(PATH, json={"lists": {"all": wanted}}))["rooms"][room]
    assert {key for key in keys(told) if key[0] == MEMBER} == {(MEMBER, alice.user_id)}
    assert (NAME, "") in keys(told)
    assert (TOPIC, "") not in keys(told)


async def test_what_several_lists_want_is_told_whatever_each_of_them_excludes(server: Server) -> None:
    _, bob, room = await two_in_a_room(server)
    lists = {
        "one": of_all([{}], [{"type": NAME}, {"type": MEMBER}]),
        "two": of_all([{"type": NAME}, {"type": TOPIC}], [{"type": TOPIC}]),
    }
    told = keys((await bob.post(PATH, json={"lists": lists}))["rooms"][room])
    assert {(NAME, ""), (TOPIC, ""), (CREATE, "")} <= told
    assert not any(kind == MEMBER for kind, _ in told)
    many = {str(n): of_all([{"type": NAME}], [{"type": NAME, "state_key": str(n)}]) for n in range(9)}
    assert keys((await bob.post(PATH, json={"lists": many}))["rooms"][room]) == {(NAME, "")}


async def test_more_state_is_told_when_less_is_excluded(server: Server) -> None:
    _, bob, room = await two_in_a_room(server)
    wanted = of_all([{"type": NAME}, {"type": TOPIC}], [{"type": TOPIC}])
    first = await bob.post(PATH, json={"lists": {"all": wanted}})
    assert keys(first["rooms"][room]) == {(NAME, "")}
    wanted = of_all([{"type": NAME}, {"type": TOPIC}])
    after = await bob.post(PATH, json={"lists": {"all": wanted}, "pos": first["pos"]})
    assert keys(after["rooms"][room]) == {(TOPIC, "")}


async def test_a_pos_leads_to_what_was_before(server: Server) -> None:
    alice, bob, room = await two_in_a_room(server)
    sent = [await alice.send(room, str(number)) for number in range(3)]
    pos = (await bob.post(PATH, json={"lists": {"all": of_all([])}}))["pos"]
    await alice.send(room, "later")
    page = await bob.messages(room, from_=pos, limit=3)
    assert [event["event_id"] for event in page["chunk"]] == sent[::-1]
    path = "/_matrix/client/v1/rooms/{}/relations/{}"
    assert (await bob.get(path, room, sent[0], params={"from": pos}))["chunk"] == []


async def test_extensions_are_about_all_lists_and_subscriptions_unless_told_otherwise(server: Server) -> None:
    """MSC4508: what is not said of `lists`, or of `rooms`, means all of them."""
    alice, bob, one = await two_in_a_room(server)
    two = await alice.create_room(preset="public_chat")
    await bob.join(two)
    for room in (one, two):
        await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 30_000})
    base = {
        "lists": {"newest": {**of_all([]), "range": [0, 0]}},
        "room_subscriptions": {one: {"timeline_limit": 1, "required_state": {}}},
    }

    async def typing(name: str = "typing", **scope: Any) -> set[str]:
        body = {**base, "extensions": {name: {"enabled": True, **scope}}}
        told = (await bob.post(PATH, json=body))["extensions"]
        return set(told.get(name, {"rooms": {}})["rooms"])

    assert await typing() == {one, two}
    assert await typing(name="org.matrix.msc4508.typing") == {one, two}
    assert await typing(lists=[]) == {one}
    assert await typing(rooms=[]) == {two}
    assert await typing(lists=["newest"]) == {one, two}
    assert await typing(rooms=[one], lists=[]) == {one}
    assert await typing(rooms=[], lists=[]) == set()


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({"pos": "nonsense"}, "M_UNKNOWN_POS"),
        ({"pos": "s1~1"}, "M_UNKNOWN_POS"),
        ({"set_presence": "away"}, "M_INVALID_PARAM"),
        ({"timeout": -1}, "M_INVALID_PARAM"),
        ({"lists": {str(n): {} for n in range(101)}}, "M_INVALID_PARAM"),
        ({"room_subscriptions": {f"!{n}:b": {} for n in range(101)}}, "M_INVALID_PARAM"),
        ({"lists": {"a b": {}}}, "M_INVALID_PARAM"),
        ({"lists": {"a": {"required_state": {"include": [{}] * 201}}}}, "M_INVALID_PARAM"),
        ({"lists": {"a": {"required_state": {"exclude": [{"type": 1}]}}}}, "M_BAD_JSON"),
        (
            {"lists": {str(n): {"required_state": {"include": [{}] * 200}} for n in range(30)}},
            "M_INVALID_PARAM",
        ),
    ],
)
async def test_what_is_too_much_or_malformed_is_refused(server: Server, body: Any, errcode: str) -> None:
    alice = await server.register("alice")
    assert (await alice.post(PATH, json=body, expect=400))["errcode"] == errcode


async def test_a_pos_of_somebody_else_is_refused(server: Server) -> None:
    _, bob, _ = await two_in_a_room(server)
    pos = (await bob.post(PATH, json={"lists": {"all": of_all([])}}))["pos"]
    carol = await server.register("carol")
    assert (await carol.post(PATH, json={"pos": pos}, expect=400))["errcode"] == "M_UNKNOWN_POS"


# --- with two processes --------------------------------------------------------------------------------------------


async def sync(here: Process, who: Requester, pos: str | None = None, **config: Any) -> Reply:
    await here.core.tail.fresh()
    wanted = of_all(config.pop("include", [{}]), config.pop("exclude", None))
    request = msgspec.convert({"lists": {"all": wanted}}, StableRequest)
    stable = config.pop("stable", True)
    answer = await here.sliding.service.sync(who, Asked(request, pos, 0, "offline", stable=stable))
    found: Reply = msgspec.json.decode(answer)
    return found


async def test_another_process_knows_what_was_excluded(database: str, tmp_path: Path) -> None:
    async with process(database, tmp_path) as here:
        alice = await here.user("alice")
        room = await here.room(alice, name="Garden")
        first = await sync(here, alice, exclude=[{"type": TOPIC}, {"type": MEMBER}])
        assert (NAME, "") in keys(first["rooms"][room])
        await here.send(alice, room, "x")
    required_state.shared.cache_clear()
    async with process(database, tmp_path) as later:
        news = await sync(later, alice, first["pos"], exclude=[{"type": TOPIC}, {"type": MEMBER}])
        assert "required_state" not in news["rooms"][room]
        assert [event["content"]["body"] for event in news["rooms"][room]["timeline"]] == ["x"]
        more = await sync(later, alice, news["pos"], exclude=[{"type": TOPIC}])
        assert keys(more["rooms"][room]) == {(MEMBER, alice.user_id)}


@pytest.mark.parametrize("stable", [True, False])
@pytest.mark.parametrize("kind", [NAME, TOPIC])
async def test_sync_07_state_that_resolution_takes_away_is_told_as_a_stub(
    database: str, tmp_path: Path, stable: bool, kind: str
) -> None:
    """Bob's name, or topic, for the room falls when the ban comes to light, and there was none before."""
    async with process(database, tmp_path) as here:
        w = await world(here)
        await here.rooms.sending.put_state(w.alice, w.room_id, (NAME, "other"), {"name": "of no account"})
        fork = await Fork.of(here, w.room_id)
        left, right = fork.branch(), fork.branch()
        ban = left.says(w.alice.user_id, MEMBER, w.bob.user_id, {"membership": "ban"})
        key = "" if kind == TOPIC else "else"
        await receive(here, right.says(w.bob.user_id, kind, key, {"topic": "bob's"}))
        first = await sync(here, w.carol, stable=stable)
        assert (kind, key) in keys(first["rooms"][w.room_id])
        await receive(here, ban)
        near = (await sync(here, w.carol, first["pos"], stable=stable))["rooms"][w.room_id]
    stubs = [event for event in near["required_state"] if "content" not in event]
    assert stubs == ([{"type": kind, "state_key": key}] if stable else [])
    async with process(database, tmp_path) as later:
        far = (await sync(later, w.carol, first["pos"], stable=stable))["rooms"][w.room_id]
    assert [event for event in far["required_state"] if "content" not in event] == stubs
