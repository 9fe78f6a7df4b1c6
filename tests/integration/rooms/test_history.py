"""Pages of history: CHECKLIST ROOM-22."""

from typing import Any

import pytest

from homeserver.graph.read.visibility import VisibilityFilter
from tests.support.server import Server
from tests.support.user import User

Event = dict[str, Any]


async def back_to_the_beginning(user: User, room: str, limit: int) -> list[str]:
    """Ids of all events, newest first, page by page."""
    found: list[str] = []
    place: dict[str, str] = {}
    while True:
        page = await user.messages(room, limit=limit, **place)
        found += [event["event_id"] for event in page["chunk"]]
        if "end" not in page:
            return found
        place = {"from": page["end"]}


async def test_what_was_just_written_is_in_the_next_page(two_servers_processes: Server) -> None:
    """Whichever processes the requests come to."""
    alice, bob = [await two_servers_processes.register(name) for name in ("alice", "bob")]
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    sent = (await back_to_the_beginning(bob, room, 50))[::-1]
    for number in range(30):
        sent.append(await (alice, bob)[number % 2].send(room, f"{number}"))
        newest = await bob.messages(room, limit=3)
        assert [event["event_id"] for event in newest["chunk"]] == sent[: -(3 + 1) : -1]
        older = await alice.messages(room, limit=4, **{"from": newest["end"]})
        assert [event["event_id"] for event in older["chunk"]] == sent[-4 : -(7 + 1) : -1]
        again = await bob.messages(room, dir="f", limit=4, **{"from": older["end"]})
        assert [event["event_id"] for event in again["chunk"]] == sent[-7:-3]
    for limit in (7, 1000):
        assert await back_to_the_beginning(alice, room, limit) == sent[::-1]


async def test_who_leaves_while_a_page_is_put_together_is_shown_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ROOM-22: what a room is to its reader may change between two looks at the database."""
    alice, bob = [await server.register(name) for name in ("alice", "bob")]
    room = await alice.create_room(preset="public_chat")
    await alice.send(room, "before")
    await bob.join(room)
    said = await alice.send(room, "after")
    look = VisibilityFilter._moments

    async def leave_meanwhile(*given: Any) -> Any:
        found = await look(*given)
        monkeypatch.setattr(VisibilityFilter, "_moments", look)
        await bob.leave(room)
        return found

    monkeypatch.setattr(VisibilityFilter, "_moments", leave_meanwhile)
    page = await bob.messages(room, limit=20)
    assert said in {event["event_id"] for event in page["chunk"]}
    assert "after" in {event["content"].get("body") for event in page["chunk"]}
