"""Sending relations, and paging through them and through threads: CHECKLIST section 12."""

import asyncio
from typing import Any

import pytest

from tests.integration.relations.test_bundles import IGNORED, edit, pair, relates, reply
from tests.support.server import Server
from tests.support.user import User

RELATIONS = "/_matrix/client/v1/rooms/{}/relations/{}"
THREADS = "/_matrix/client/v1/rooms/{}/threads"
MEMBERS_ALONE = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}


def ids(page: dict[str, Any]) -> list[str]:
    return [event["event_id"] for event in page["chunk"]]


async def react(user: User, room: str, parent: str, key: str = "+", **more: Any) -> str:
    return await user.send_event(room, "m.reaction", relates("m.annotation", parent, key=key), **more)


async def test_nobody_annotates_twice_in_the_same_way(server: Server) -> None:
    """REL-07: another key, type or sender is another annotation; a retry is none."""
    room, alice, bob = await pair(server)
    original = await alice.send(room, "original")
    first = await react(alice, room, original, txn="mine")
    assert await react(alice, room, original, txn="mine") == first
    await react(alice, room, original, expect=(400, "M_DUPLICATE_ANNOTATION"))
    await react(alice, room, original, "-")
    await react(bob, room, original)
    await alice.send_event(room, "org.example", relates("m.annotation", original, key="+"))
    await alice.redact(room, first)
    await react(alice, room, original)


async def test_the_same_annotation_twice_at_once_is_one(server: Server) -> None:
    """REL-07."""
    room, alice, _ = await pair(server)
    original = await alice.send(room, "original")
    tablet = await alice.new_device()
    both = [react(user, room, original, expect=None) for user in (alice, tablet, alice, tablet)]
    assert sorted(bool(event_id) for event_id in await asyncio.gather(*both)) == [False, False, False, True]
    assert len(ids(await alice.get(RELATIONS, room, original))) == 1


async def test_a_thread_begins_at_what_relates_to_nothing(server: Server) -> None:
    """REL-10: plain replies may be roots."""
    room, alice, bob = await pair(server)
    root = await alice.send(room, "root")
    answer = await reply(alice, room, root)
    reaction = await react(alice, room, root)
    for parent in (answer, reaction):
        await bob.send(room, "no", **relates("m.thread", parent), expect=(400, "M_UNKNOWN"))
    plain = await bob.send(room, "re", **{"m.relates_to": {"m.in_reply_to": {"event_id": root}}})
    await reply(bob, room, plain)


async def test_threads_come_by_their_newest_reply(server: Server) -> None:
    """REL-11, REL-02."""
    room, alice, bob = await pair(server)
    roots = [await alice.send(room, f"{n}") for n in range(4)]
    for root in roots[:3]:
        await reply(alice, room, root)
    await reply(bob, room, roots[0], "newest")
    page = await alice.get(THREADS, room)
    assert ids(page) == [roots[0], roots[2], roots[1]]
    assert "next_batch" not in page
    thread = page["chunk"][0]["unsigned"]["m.relations"]["m.thread"]
    assert (thread["count"], thread["latest_event"]["content"]["body"]) == (2, "newest")
    assert page["chunk"][0]["room_id"] == room
    assert ids(await bob.get(THREADS, room, params={"include": "participated"})) == [roots[0]]
    assert len(ids(await alice.get(THREADS, room, params={"include": "participated"}))) == 3
    found, token = [], None
    while True:
        page = await alice.get(THREADS, room, params={"limit": 1, "from": token})
        found += ids(page)
        token = page.get("next_batch")
        if token is None:
            break
    assert found == [roots[0], roots[2], roots[1]]


async def test_threads_know_who_reads_them(server: Server) -> None:
    """REL-11: visibility, ignored users, strangers."""
    hidden = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room, alice, bob = await pair(server, initial_state=[hidden])
    carol = await server.register("carol")
    await carol.get(THREADS, room, expect=(403, "M_FORBIDDEN"))
    early = await alice.send(room, "early")
    await reply(alice, room, early)
    await carol.join(room)
    late = await bob.send(room, "late words")
    await reply(alice, room, late)
    await reply(alice, room, early, "more")
    assert ids(await carol.get(THREADS, room)) == [late]
    assert ids(await alice.get(THREADS, room)) == [early, late]
    await carol.put(IGNORED, carol.user_id, json={"ignored_users": {bob.user_id: {}}})
    page = await carol.get(THREADS, room)
    assert ids(page) == [late]
    assert page["chunk"][0]["content"] == {}
    assert page["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"] == 1
    await carol.put(IGNORED, carol.user_id, json={"ignored_users": {alice.user_id: {}}})
    assert ids(await carol.get(THREADS, room)) == [], "nobody she listens to has replied"


@pytest.mark.parametrize("params", [{"from": "nonsense"}, {"limit": 0}, {"limit": -1}, {"include": "some"}])
async def test_nonsense_about_threads_is_refused(server: Server, params: dict[str, Any]) -> None:
    """REL-11."""
    room, alice, _ = await pair(server)
    await alice.get(THREADS, room, params=params, expect=(400, "M_INVALID_PARAM"))


async def test_relations_are_read_in_pages(server: Server) -> None:
    """REL-12: both ways, between tokens of any kind."""
    room, alice, bob = await pair(server)
    root = await alice.send(room, "root")
    first = [await reply(alice, room, root, f"{n}") for n in range(3)]
    middle = (await alice.sync())["next_batch"]
    second = [await reply(bob, room, root, f"{n}") for n in range(3)]
    every = first + second
    assert ids(await alice.get(RELATIONS, room, root, params={"limit": 50})) == every[::-1]
    assert ids(await alice.get(RELATIONS, room, root, params={"limit": 50, "dir": "f"})) == every
    for direction, expected in (("b", every[::-1]), ("f", every)):
        found, token = [], None
        while True:
            params = {"limit": 2, "from": token, "dir": direction}
            page = await alice.get(RELATIONS, room, root, params=params)
            assert "recursion_depth" not in page
            found += ids(page)
            token = page.get("next_batch")
            if token is None:
                break
        assert found == expected
    assert ids(await alice.get(RELATIONS, room, root, params={"from": middle})) == first[::-1]
    assert ids(await alice.get(RELATIONS, room, root, params={"from": middle, "dir": "f"})) == second
    assert ids(await alice.get(RELATIONS, room, root, params={"to": middle})) == second[::-1]
    page = await alice.messages(room, limit=2)
    older = await alice.get(RELATIONS, room, root, params={"from": page["end"], "limit": 50})
    assert ids(older) == every[-3::-1]
    await alice.get(RELATIONS, room, root, params={"from": "nonsense"}, expect=(400, "M_INVALID_PARAM"))
    await alice.get(RELATIONS, room, "$nothing", expect=(404, "M_NOT_FOUND"))
    carol = await server.register("carol")
    await carol.get(RELATIONS, room, root, expect=None)


async def test_relations_of_relations(server: Server) -> None:
    """REL-12, REL-13: three deep; what is asked for is looked for on every level, and on every level alone."""
    room, alice, bob = await pair(server)
    root = await alice.send(room, "root")
    answer = await reply(bob, room, root)
    changed = await edit(bob, room, answer, "changed")
    reaction = await react(alice, room, changed)
    direct = await react(bob, room, root)
    assert ids(await alice.get(RELATIONS, room, root)) == [direct, answer]
    deep = {"recurse": "true"}
    page = await alice.get(RELATIONS, room, root, params=deep)
    assert ids(page) == [direct, reaction, changed, answer]
    assert page["recursion_depth"] >= 3
    assert ids(await alice.get(RELATIONS + "/{}", room, root, "m.annotation", params=deep)) == [
        direct,
        reaction,
    ]
    kind = RELATIONS + "/{}/{}"
    assert ids(await alice.get(kind, room, root, "m.annotation", "m.reaction", params=deep)) == [
        direct,
        reaction,
    ]
    assert ids(await alice.get(kind, room, root, "m.annotation", "m.room.message", params=deep)) == []
    assert ids(await alice.get(RELATIONS + "/{}", room, root, "m.replace", params=deep)) == [changed]
    assert ids(await alice.get(RELATIONS + "/{}", room, root, "m.thread")) == [answer]


async def test_plain_replies_are_no_relations(server: Server) -> None:
    """REL-14: and nothing is written into them."""
    room, alice, bob = await pair(server)
    root = await alice.send(room, "root")
    content = {"m.relates_to": {"m.in_reply_to": {"event_id": root}}}
    answer = await bob.send(room, "answer", **content)
    assert ids(await alice.get(RELATIONS, room, root)) == []
    assert (await alice.event(room, answer))["content"] == {"msgtype": "m.text", "body": "answer", **content}
    threaded = {
        "m.relates_to": {"rel_type": "m.thread", "event_id": root, "m.in_reply_to": {"event_id": answer}}
    }
    in_thread = await bob.send(room, "in the thread", **threaded)
    assert ids(await alice.get(RELATIONS, room, root)) == [in_thread]
    assert ids(await alice.get(RELATIONS, room, answer)) == []


async def answered_while_away(alice: User, bob: User, room: str) -> tuple[str, str, str]:
    """Alice's message, bob's answer, and alice's own once bob has left, which he may not see."""
    root = await alice.send(room, "root")
    seen = await reply(bob, room, root)
    await bob.leave(room)
    return root, seen, await reply(alice, room, root, "secret")


async def test_relations_show_no_more_than_the_room_does(server: Server) -> None:
    """REL-12, HV-01."""
    room, alice, bob = await pair(server, initial_state=[MEMBERS_ALONE])
    root, seen, _ = await answered_while_away(alice, bob, room)
    assert ids(await bob.get(RELATIONS, room, root)) == [seen]
    carol = await server.register("carol")
    await carol.join(room)
    await carol.get(RELATIONS, room, root, expect=(404, "M_NOT_FOUND"))


async def test_threads_bundles_and_notifications_show_no_more_than_the_room_does(server: Server) -> None:
    """HV-01: what was said while one was not there, in a room that shows that to members alone."""
    room, alice, bob = await pair(server, initial_state=[MEMBERS_ALONE])
    root, seen, secret = await answered_while_away(alice, bob, room)
    other = await alice.send(room, f"secret, {bob.localpart}")
    await reply(alice, room, other, "secret")
    edit = {"m.new_content": {"msgtype": "m.text", "body": "secret"}}
    relation = {"m.relates_to": {"rel_type": "m.replace", "event_id": root}}
    await alice.send(room, "secret", **edit, **relation)
    for _ in range(2):  # as one who has left, and as one who is back
        threads = (await bob.get("/_matrix/client/v1/rooms/{}/threads", room))["chunk"]
        assert [event["event_id"] for event in threads] == [root]
        page = (await bob.get("/rooms/{}/messages", room, params={"dir": "b", "limit": 50}))["chunk"]
        event = await bob.get("/rooms/{}/event/{}", room, root)
        for shown in (*threads, *page, event, *(await bob.get("/notifications"))["notifications"]):
            assert "secret" not in str(shown), shown
            assert secret not in str(shown), shown
        bundle = event["unsigned"]["m.relations"]["m.thread"]
        assert (bundle["count"], bundle["latest_event"]["event_id"]) == (1, seen)
        await bob.join(room)
