"""Answers that list are bounded in bytes, not in number alone: a page ends early, with a token to go on, and nothing is lost."""

from typing import Any

import pytest

from homeserver.directory import service as directory
from homeserver.graph.read.page_size import PAGE_BYTES
from homeserver.relations import service as relations
from homeserver.relations import threads
from homeserver.sync.selection import timeline
from tests.support.server import Server
from tests.support.user import User

TEXT = "x" * 60_000
MANY = 90
"""Events of 60 kB: more than a page may have."""


def size(events: list[dict[str, Any]]) -> int:
    return sum(len(event["content"].get("body", "")) for event in events)


@pytest.fixture
async def full(server: Server) -> tuple[User, User, str, list[str]]:
    """Alice, Bob, a room of theirs, and the large events that Alice sent to it."""
    alice, bob = [await server.register(name) for name in ("alice", "bob")]
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    return alice, bob, room, [await alice.send(room, TEXT) for _ in range(MANY)]


async def test_pages_of_history(full: tuple[User, User, str, list[str]]) -> None:
    """ROOM-22, in both directions."""
    alice, _, room, sent = full
    for direction in ("b", "f"):
        found: list[str] = []
        place: dict[str, str] = {}
        while True:
            page = await alice.messages(room, dir=direction, limit=1000, **place)
            assert 0 < size(page["chunk"]) <= PAGE_BYTES
            found += [event["event_id"] for event in page["chunk"] if event["event_id"] in sent]
            if "end" not in page:
                break
            place = {"from": page["end"]}
        assert found == (sent if direction == "f" else sent[::-1])


async def test_a_filter_reads_a_bounded_stretch(full: tuple[User, User, str, list[str]]) -> None:
    """What the filter leaves out is read too: some megabytes for one page, then there is a token."""
    alice, _, room, _ = full
    found: list[str] = []
    place: dict[str, str] = {}
    while True:
        page = await alice.messages(room, limit=1000, filter='{"types":["m.room.create"]}', **place)
        found += [event["type"] for event in page["chunk"]]
        if "end" not in page:
            break
        place = {"from": page["end"]}
    assert found == ["m.room.create"]


async def test_the_surroundings_of_an_event(full: tuple[User, User, str, list[str]]) -> None:
    """ROOM-23."""
    alice, _, room, sent = full
    middle = sent[MANY // 2]
    context = await alice.get("/rooms/{}/context/{}", room, middle, params={"limit": 1000})
    around = [*context["events_before"][::-1], context["event"], *context["events_after"]]
    assert 0 < size(around) <= PAGE_BYTES + len(TEXT)
    back = await alice.messages(room, limit=1, **{"from": context["start"]})
    forth = await alice.messages(room, dir="f", limit=1, **{"from": context["end"]})
    at = [sent.index(event["event_id"]) for event in (back["chunk"] + around + forth["chunk"])]
    assert at == list(range(at[0], at[0] + len(at)))


async def test_what_is_bundled_counts(
    full: tuple[User, User, str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small events with large edits: what is answered is what is bounded."""
    alice, _, room, _ = full
    small = [await alice.send(room, f"{number}") for number in range(12)]
    for event_id in small:
        relation = {"rel_type": "m.replace", "event_id": event_id}
        await alice.send(
            room, TEXT, **{"m.relates_to": relation, "m.new_content": {"msgtype": "m.text", "body": "y"}}
        )
    start = (await alice.messages(room, limit=12))["end"]
    monkeypatch.setattr("homeserver.rooms.history.ANSWER_BYTES", 500_000)
    first = await alice.messages(room, limit=12, **{"from": start})
    second = await alice.messages(room, limit=12, **{"from": first["end"]})
    assert 0 < len(first["chunk"]) < 12
    found = [event["event_id"] for event in (*first["chunk"], *second["chunk"])]
    assert found[:12] == small[::-1]


async def pages(user: User, path: str, *args: str, member: str = "chunk", **params: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    while True:
        page = await user.get(path, *args, params=params)
        found.append(page[member])
        token = page.get("next_batch", page.get("next_token"))
        if token is None:
            return found
        params["from"] = token


async def test_relations_and_threads(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """REL-11, REL-12."""
    for module in (relations, threads):
        monkeypatch.setattr(module, "ANSWER_BYTES", 500_000)
    alice = await server.register("alice")
    room = await alice.create_room()
    root = await alice.send(room, "root")
    thread = {"m.relates_to": {"rel_type": "m.thread", "event_id": root}}
    children = [await alice.send(room, TEXT, **thread) for _ in range(20)]
    for direction in ("b", "f"):
        found = await pages(
            alice, "/_matrix/client/v1/rooms/{}/relations/{}", room, root, limit=100, dir=direction
        )
        assert all(0 < size(page) <= 500_000 for page in found)
        ids = [event["event_id"] for page in found for event in page]
        assert ids == (children if direction == "f" else children[::-1])
    roots = [await alice.send(room, TEXT) for _ in range(20)]
    for each in roots:
        await alice.send(room, TEXT, **{"m.relates_to": {"rel_type": "m.thread", "event_id": each}})
    found = await pages(alice, "/_matrix/client/v1/rooms/{}/threads", room, limit=100)
    assert all(0 < size(page) <= 500_000 for page in found)
    assert [event["event_id"] for page in found for event in page] == [*roots[::-1], root]


async def test_notifications(full: tuple[User, User, str, list[str]]) -> None:
    """PUSH-18."""
    _, bob, _, sent = full
    found = await pages(bob, "/notifications", member="notifications", limit=100)
    assert all(size([each["event"] for each in page]) <= PAGE_BYTES for page in found)
    ids = [each["event"]["event_id"] for page in found for each in page]
    assert [each for each in ids if each in sent] == sent[::-1]


@pytest.mark.parametrize("first", [True, False])
async def test_timelines_of_a_sync(full: tuple[User, User, str, list[str]], first: bool) -> None:
    """SYNC-04: `limited`, and what is missing lies behind `prev_batch`. From the database and from memory."""
    alice, bob, room, sent = full
    since: dict[str, Any] = {"since": None}
    if not first:
        since = {"since": (await bob.sync(since=None))["next_batch"]}
        sent = [await alice.send(room, TEXT) for _ in range(40)]
    synced = await bob.sync(filter='{"room":{"timeline":{"limit":100}}}', **since)
    shown = synced["rooms"]["join"][room]["timeline"]
    assert 0 < size(shown["events"]) <= timeline.ROOM_BYTES
    assert shown["limited"]
    older = await bob.messages(room, limit=1000, **{"from": shown["prev_batch"]})
    ids = [event["event_id"] for event in (*older["chunk"][::-1], *shown["events"])]
    assert [each for each in ids if each in sent] == sent[-len([each for each in ids if each in sent]) :]
    assert ids[-1] == sent[-1]


async def test_all_timelines_of_a_sync_together(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "ANSWER_BYTES", 1_000_000)
    alice = await server.register("alice")
    rooms = [await alice.create_room() for _ in range(5)]
    for room in rooms:
        for _ in range(8):
            await alice.send(room, TEXT)
    synced = await alice.sync(since=None, filter='{"room":{"timeline":{"limit":100}}}')
    shown = [synced["rooms"]["join"][room]["timeline"] for room in rooms]
    assert all(each["events"] and each["limited"] for each in shown)
    assert sum(size(each["events"]) for each in shown) <= 1_000_000


async def test_the_list_of_published_rooms(fresh_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """DIR: a topic may have sixty kilobytes."""
    monkeypatch.setattr(directory, "PAGE_BYTES", 200_000)
    alice = await fresh_server.register("alice")
    rooms = {await alice.create_room(visibility="public", topic="t" * 20_000) for _ in range(6)}
    found: list[str] = []
    params: dict[str, Any] = {"limit": 100}
    while True:
        page = await alice.get("/publicRooms", params=params)
        assert len(page["chunk"]) <= 2
        found += [room["room_id"] for room in page["chunk"]]
        if "next_batch" not in page:
            break
        params["since"] = page["next_batch"]
    assert sorted(found) == sorted(rooms)
