"""What one was notified of: PUSH-18."""

from typing import Any

from tests.support.server import Server
from tests.support.unread import RECEIPT, in_thread, meeting, mentioning
from tests.support.user import User


async def listed(user: User, **params: Any) -> tuple[list[tuple[str, bool]], str | None]:
    """(event, read) of each, and where to go on."""
    reply = await user.get("/notifications", params=params)
    return [(each["event"]["event_id"], each["read"]) for each in reply["notifications"]], reply.get(
        "next_token"
    )


async def test_notifications_are_listed_with_what_was_read(server: Server) -> None:
    """PUSH-18: the newest first; not one's own, nor what notifies nobody."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    first = await alice.send(room, "first")
    await alice.send(room, "beep", msgtype="m.notice")
    await bob.send(room, "mine")
    answer = await alice.send(room, "answer", **in_thread(first), **mentioning(bob))
    last = await alice.send(room, "last")
    assert await listed(bob) == ([(last, False), (answer, False), (first, False)], None)
    await bob.post(RECEIPT, room, "m.read", last, json={"thread_id": "main"})
    assert (await listed(bob))[0] == [(last, True), (answer, False), (first, True)]
    [highlight] = (await bob.get("/notifications", params={"only": "highlight"}))["notifications"]
    assert (highlight["event"]["event_id"], highlight["room_id"]) == (answer, room)
    assert highlight["actions"][0] == "notify"
    assert {"set_tweak": "highlight"} in highlight["actions"]


async def test_pages_of_notifications(server: Server) -> None:
    """PUSH-18: over all rooms, none twice, none missing."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    other = await alice.create_room(preset="public_chat")
    await bob.join(other)
    sent = [await alice.send((room, other)[number % 2], f"{number}") for number in range(7)]
    found: list[str] = []
    page, token = await listed(bob, limit=3)
    found += [event for event, _ in page]
    while token is not None:
        page, token = await listed(bob, limit=3, **{"from": token})
        found += [event for event, _ in page]
    assert found == sent[::-1]
    await bob.get("/notifications", params={"from": "x"}, expect=(400, "M_INVALID_PARAM"))
    await bob.get("/notifications", params={"limit": 0}, expect=(400, "M_INVALID_PARAM"))


async def test_keywords_notify_and_muted_rooms_do_not(server: Server) -> None:
    """PUSH-18, PUSH-08: by the rules there were when it came, whatever they are now."""
    room, (alice, bob) = await meeting(server, "alice", "bob")
    rule = "/pushrules/global/{}/{}"
    first = await alice.send(room, "tea")
    await bob.put(rule, "content", "coffee", json={"pattern": "coffee", "actions": ["notify"]})
    await bob.put(rule, "room", room, json={"actions": []})
    await alice.send(room, "tea again")
    coffee = await alice.send(room, "coffee")
    assert await listed(bob) == ([(coffee, False), (first, False)], None)
    mute = {"conditions": [{"kind": "event_match", "key": "room_id", "pattern": room}], "actions": []}
    await bob.put(rule, "override", room, json=mute)
    await alice.send(room, "more coffee")
    assert await listed(bob) == ([(coffee, False), (first, False)], None)
    await bob.delete(rule, "override", room)
    await bob.delete(rule, "room", room)
    assert await listed(bob) == ([(coffee, False), (first, False)], None)
