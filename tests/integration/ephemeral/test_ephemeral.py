"""Receipts, markers and typing: CHECKLIST section 13."""

from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

RECEIPT = "/rooms/{}/receipt/{}/{}"
TYPING = "/rooms/{}/typing/{}"


async def pair(server: Server) -> tuple[str, User, User]:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    return room, alice, bob


def ephemeral(reply: dict[str, Any], room: str, kind: str) -> dict[str, Any] | None:
    """The content of the room's event of this kind."""
    section = reply.get("rooms", {}).get("join", {}).get(room, {}).get("ephemeral", {})
    found = [event["content"] for event in section.get("events", []) if event["type"] == kind]
    assert len(found) <= 1, "batched per room"
    return dict(found[0]) if found else None


async def reply_in(user: User, room: str, root: str, text: str) -> str:
    return await user.send(room, text, **{"m.relates_to": {"rel_type": "m.thread", "event_id": root}})  # type: ignore[arg-type]


async def test_what_is_ephemeral_has_its_place_in_an_initial_sync(server: Server) -> None:
    """EPH-01: also where there is nothing; later answers say nothing of it then."""
    room, alice, bob = await pair(server)
    assert (await alice.sync(since=None))["rooms"]["join"][room]["ephemeral"] == {"events": []}
    await bob.send(room, "text")
    assert "ephemeral" not in (await alice.sync())["rooms"]["join"][room]


async def test_receipts_replace_each_other_only_within_their_thread(server: Server) -> None:
    """EPH-01, EPH-04."""
    room, alice, bob = await pair(server)
    root = await alice.send(room, "root")
    answer = await reply_in(alice, room, root, "answer")
    last = await alice.send(room, "last")
    await alice.sync()
    for event_id, body in ((answer, {"thread_id": root}), (last, {"thread_id": "main"}), (root, {})):
        await bob.post(RECEIPT, room, "m.read", event_id, json=body)
    content = ephemeral(await alice.sync(), room, "m.receipt")
    assert content is not None
    told = {event: of["m.read"][bob.user_id].get("thread_id") for event, of in content.items()}
    assert told == {answer: root, last: "main", root: None}
    await bob.post(RECEIPT, room, "m.read", last)
    content = ephemeral(await alice.sync(), room, "m.receipt")
    assert content is not None
    assert set(content) == {last}


@pytest.mark.parametrize("first", ["in the thread", "everywhere"])
@pytest.mark.parametrize("fresh", [True, False])
async def test_of_two_receipts_at_one_event_the_one_for_all_threads_is_told(
    server: Server, first: str, fresh: bool
) -> None:
    """EPH-01, EPH-04: m.receipt has room for one per user and event, and this one says what the other says, too."""
    room, alice, bob = await pair(server)
    before, last = await alice.send(room, "before"), await alice.send(room, "last")
    await alice.sync()
    await bob.post(RECEIPT, room, "m.read", before)
    bodies: list[dict[str, Any]] = [{"thread_id": "main"}, {}]
    for body in bodies if first == "in the thread" else reversed(bodies):
        await bob.post(RECEIPT, room, "m.read", last, json=body)
    content = ephemeral(await (alice.sync(since=None) if fresh else alice.sync()), room, "m.receipt")
    assert content is not None
    assert "thread_id" not in content[last]["m.read"][bob.user_id]


async def test_private_receipts_stay_private(server: Server) -> None:
    """EPH-02."""
    room, alice, bob = await pair(server)
    event_id = await alice.send(room, "read me")
    await alice.sync()
    await bob.sync()
    await bob.post(RECEIPT, room, "m.read.private", event_id)
    assert ephemeral(await alice.sync(), room, "m.receipt") is None
    assert ephemeral(await alice.sync(since=None), room, "m.receipt") is None
    own = ephemeral(await bob.sync(), room, "m.receipt")
    assert own is not None
    assert bob.user_id in own[event_id]["m.read.private"]


@pytest.mark.parametrize("thread", ["", 7, None, "$elsewhere", ["main"]])
async def test_a_thread_the_event_is_not_in_is_refused(server: Server, thread: object) -> None:
    """EPH-03."""
    room, alice, bob = await pair(server)
    event_id = await alice.send(room, "no thread")
    body = {"thread_id": thread}
    await bob.post(RECEIPT, room, "m.read", event_id, json=body, expect=(400, "M_INVALID_PARAM"))


async def test_the_marker_knows_no_threads(server: Server) -> None:
    """EPH-03."""
    room, alice, bob = await pair(server)
    event_id = await alice.send(room, "x")
    for thread in ("main", None):
        body = {"thread_id": thread}
        await bob.post(RECEIPT, room, "m.fully_read", event_id, json=body, expect=(400, "M_INVALID_PARAM"))


async def test_what_relates_to_a_reply_is_in_its_thread(server: Server) -> None:
    """EPH-05: the root and what relates to it otherwise are in main."""
    room, alice, bob = await pair(server)
    root = await alice.send(room, "root")
    answer = await reply_in(alice, room, root, "answer")
    reactions = [
        await alice.send_event(
            room,
            "m.reaction",
            {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": "+"}},
        )
        for target in (answer, root)
    ]
    for event_id, right, wrong in ((reactions[0], root, "main"), (reactions[1], "main", root)):
        await bob.post(RECEIPT, room, "m.read", event_id, json={"thread_id": wrong}, expect=400)
        await bob.post(RECEIPT, room, "m.read", event_id, json={"thread_id": right})


async def test_each_marker_is_optional(server: Server) -> None:
    """EPH-06."""
    room, alice, bob = await pair(server)
    first, second = await alice.send(room, "1"), await alice.send(room, "2")
    await bob.sync()
    await bob.post("/rooms/{}/read_markers", room, json={"m.fully_read": first})
    path = "/user/{}/rooms/{}/account_data/m.fully_read"
    assert await bob.get(path, bob.user_id, room) == {"event_id": first}
    section = (await bob.sync())["rooms"]["join"][room]
    assert section["account_data"]["events"] == [{"type": "m.fully_read", "content": {"event_id": first}}]
    await bob.post(RECEIPT, room, "m.fully_read", second)
    assert await bob.get(path, bob.user_id, room) == {"event_id": second}
    await bob.post("/rooms/{}/read_markers", room, json={"m.read": second})
    await bob.post("/rooms/{}/read_markers", room, json={})


@pytest.mark.parametrize("marker", ["m.fully_read", "m.read", "m.read.private"])
async def test_a_marker_stands_at_an_event_of_the_room(server: Server, marker: str) -> None:
    """EPH-06: with anything else there, clients would look for where to go on reading, and never find it."""
    room, alice, bob = await pair(server)
    first = await alice.send(room, "1")
    elsewhere = await alice.send(await alice.create_room(), "not here")
    await bob.post("/rooms/{}/read_markers", room, json={"m.fully_read": first})
    for nothing in ("$nothing", elsewhere, "x" * 100_000):
        await bob.post(
            "/rooms/{}/read_markers",
            room,
            json={"m.fully_read": first, marker: nothing},
            expect=(404, "M_NOT_FOUND"),
        )
    await bob.post(RECEIPT, room, marker, "$nothing", expect=(404, "M_NOT_FOUND"))
    path = "/user/{}/rooms/{}/account_data/m.fully_read"
    assert await bob.get(path, bob.user_id, room) == {"event_id": first}


async def test_typing_tells_of_all_and_ends(server: Server) -> None:
    """EPH-08, SYNC-17."""
    room, alice, bob = await pair(server)
    await alice.sync()
    await bob.put(TYPING, room, bob.user_id, json={"typing": True, "timeout": 100})
    await alice.put(TYPING, room, alice.user_id, json={"typing": True, "timeout": 60_000})
    content = ephemeral(await alice.sync(), room, "m.typing")
    assert content is not None
    assert set(content["user_ids"]) == {alice.user_id, bob.user_id}
    over = await alice.sync_until(lambda reply: ephemeral(reply, room, "m.typing") is not None)
    assert ephemeral(over, room, "m.typing") == {"user_ids": [alice.user_id]}
    await alice.put(TYPING, room, alice.user_id, json={"typing": False})
    assert ephemeral(await alice.sync(), room, "m.typing") == {"user_ids": []}


async def test_one_types_for_oneself_where_one_is(server: Server) -> None:
    """EPH-08."""
    room, alice, bob = await pair(server)
    carol = await server.register("carol")
    body = {"typing": True, "timeout": 1000}
    await bob.put(TYPING, room, alice.user_id, json=body, expect=(403, "M_FORBIDDEN"))
    await carol.put(TYPING, room, carol.user_id, json=body, expect=(403, "M_FORBIDDEN"))


async def test_presence_is_for_those_who_share_a_room(server: Server) -> None:
    """EPH-09, EPH-10."""
    _, alice, bob = await pair(server)
    carol = await server.register("carol")
    path = "/presence/{}/status"
    await bob.put(path, bob.user_id, json={"presence": "unavailable", "status_msg": "tea"})
    found = await alice.get(path, bob.user_id)
    assert (found["presence"], found["status_msg"]) == ("unavailable", "tea")
    await carol.get(path, bob.user_id, expect=(403, "M_FORBIDDEN"))
    await alice.put(path, bob.user_id, json={"presence": "online"}, expect=(403, "M_FORBIDDEN"))
