"""What was said before anybody here was in the room: relations and threads are asked of the other server (ROOM-22, REL-11,
REL-12), and what has come is found by its words.
"""

from typing import Any

from tests.integration.relations.test_bundles import relates, reply
from tests.support.federation import Federation
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until

RELATIONS = "/_matrix/client/v1/rooms/{}/relations/{}"
THREADS = "/_matrix/client/v1/rooms/{}/threads"
SAID = 450
"""Between what is looked for and the join: more than is asked for at once, and for one answer."""


async def prepared(federation: Federation) -> tuple[Server, User, User, str]:
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    return here, alice, bob, await alice.create_room(preset="public_chat")


async def paged(user: User, path: str, *args: str, **params: Any) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    token = None
    for _ in range(20):
        page = await user.get(path, *args, params={**params, "from": token})
        found += [event["event_id"] for event in page["chunk"]]
        token = page.get("next_batch")
        if token is None:
            return found
    raise AssertionError("the pages do not end")


async def test_relations_of_while_nobody_was_there(federation: Federation) -> None:
    here, alice, bob, room = await prepared(federation)
    parent = await alice.send(room, "parent")
    await bob.join(room, via=[here.name])
    assert parent in {event["event_id"] for event in (await bob.messages(room, limit=50))["chunk"]}
    await bob.leave(room)
    await alice.sees(room, lambda event: event["content"].get("membership") == "leave")
    children = [
        await alice.send_event(room, "m.reaction", relates("m.annotation", parent, key=str(number)))
        for number in range(30)
    ]
    for number in range(SAID):
        await alice.send(room, f"later {number}")
    children.append(await alice.send_event(room, "m.reaction", relates("m.annotation", parent, key="last")))
    await bob.join(room, via=[here.name])
    assert await paged(bob, RELATIONS, room, parent, limit=10) == children[::-1]
    assert await paged(bob, RELATIONS, room, parent, dir="f", limit=10) == children


async def test_relations_of_an_event_of_before_the_join(federation: Federation) -> None:
    here, alice, bob, room = await prepared(federation)
    parent = await alice.send(room, "parent")
    child = await alice.send_event(room, "m.reaction", relates("m.annotation", parent, key="+"))
    for number in range(150):
        await alice.send(room, f"later {number}")
    await bob.join(room, via=[here.name])
    assert await paged(bob, RELATIONS, room, parent) == [child]


async def test_threads_of_before_the_join(federation: Federation) -> None:
    here, alice, bob, room = await prepared(federation)
    roots = [await alice.send(room, f"root {number}") for number in range(12)]
    for root in roots:
        await reply(alice, room, root)
    for number in range(SAID):
        await alice.send(room, f"later {number}")
    newest = await alice.send(room, "newest root")
    await reply(alice, room, newest)
    await bob.join(room, via=[here.name])
    assert await paged(bob, THREADS, room, limit=5) == [newest, *roots[::-1]]


async def test_nobody_is_asked_by_who_is_not_in_the_room(federation: Federation) -> None:
    """HV-02: who has left sees what they saw, and moves no other server."""
    here, alice, bob, room = await prepared(federation)
    root = await alice.send(room, "root")
    await reply(alice, room, root)
    await bob.join(room, via=[here.name])
    await bob.leave(room)
    assert await paged(bob, THREADS, room) == []
    await bob.get(RELATIONS, room, root, expect=(404, "M_NOT_FOUND"))


async def test_pages_end_where_nobody_tells_more(federation: Federation) -> None:
    here, alice, bob, room = await prepared(federation)
    root = await alice.send(room, "root")
    await reply(alice, room, root)
    await bob.join(room, via=[here.name])
    acl = {"allow": ["*"], "deny": ["localhost"], "allow_ip_literals": True}
    await alice.put_state(room, "m.room.server_acl", acl)
    assert await paged(bob, THREADS, room) == []
    await bob.get(RELATIONS, room, root, expect=(404, "M_NOT_FOUND"))


async def test_what_came_later_is_found_by_its_words(federation: Federation) -> None:
    """SRCH-01"""
    here, alice, bob, room = await prepared(federation)
    said = await alice.send(room, "an aardvark of before")
    await bob.join(room, via=[here.name])
    assert said in {event["event_id"] for event in (await bob.messages(room, limit=100))["chunk"]}
    body = {"search_categories": {"room_events": {"search_term": "aardvark"}}}

    async def found() -> bool:
        answer = await bob.post("/search", json=body)
        results = answer["search_categories"]["room_events"]["results"]
        return [each["result"]["event_id"] for each in results] == [said]

    await until(found, within=60, every=0.5)
