"""Sticky events (MSC4354; CHECKLIST 26): told to whoever is behind the timeline, for as long as they say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.sync.test_sliding import Connection, everything
from tests.support.server import Server
from tests.support.user import User

STICKY = "msc4354_sticky"
FOR = "org.matrix.msc4354.sticky_duration_ms"
REMAINING = "msc4354_sticky_duration_ttl_ms"
EXTENSION = "org.matrix.msc4354.sticky_events"
RTC = "org.matrix.msc4143.rtc.member"


async def stick(user: User, room: str, key: str, ms: int = 600_000, **params: Any) -> str:
    """A membership of a call that is sticky; its event id."""
    content = {"msc4354_sticky_key": key, "slot_id": "m.call#ROOM"}
    path = "/rooms/{}/send/{}/{}"
    answer = await user.put(path, room, RTC, f"txn-{key}", json=content, params={FOR: ms, **params})
    return str(answer.get("event_id", answer.get("delay_id")))


async def told(user: User, room: str, limit: int = 1, **params: Any) -> list[dict[str, Any]]:
    """What the next sync has in the section of the room."""
    params["filter"] = '{"room":{"timeline":{"limit":' + str(limit) + "}}}"
    answer = await user.get("/sync", params={**params, **({"since": user.since} if user.since else {})})
    user.since = answer["next_batch"]
    section = answer.get("rooms", {}).get("join", {}).get(room, {})
    return list(section.get(STICKY, {}).get("events", ()))


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [event["event_id"] for event in events]


async def test_who_is_behind_the_timeline_is_told_once(server: Server) -> None:
    features = (await server.client.get("/_matrix/client/versions"))["unstable_features"]
    assert features["org.matrix.msc4354"] is True
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await told(bob, room)
    event = await stick(alice, room, "one")
    await alice.send(room, "and then a message")
    (shown,) = await told(bob, room)
    assert (shown["event_id"], shown["type"], shown[STICKY]) == (event, RTC, {"duration_ms": 600_000})
    assert 590_000 < shown["unsigned"][REMAINING] <= 600_000
    assert await told(bob, room) == [], "once"
    assert await told(await bob.new_device(), room) != [], "another device is told, too"

    # In the timeline it is not told beside it, and says how long it is sticky.
    second = await stick(alice, room, "two")
    answer = await bob.get("/sync", params={"since": bob.since})
    section = answer["rooms"]["join"][room]
    assert STICKY not in section
    assert section["timeline"]["events"][-1]["event_id"] == second
    assert section["timeline"]["events"][-1]["unsigned"][REMAINING] > 590_000
    plain = (await bob.messages(room, limit=2))["chunk"][-1]
    assert REMAINING not in plain["unsigned"]


async def test_a_filter_of_the_timeline_does_not_hide_it(server: Server) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    event = await stick(alice, room, "one")
    params = {"filter": '{"room":{"timeline":{"types":["m.room.message"]}}}'}
    answer = await alice.get("/sync", params=params)
    assert ids(answer["rooms"]["join"][room][STICKY]["events"]) == [event]


async def test_who_joins_is_told_whatever_the_history_visibility(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    state = [{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]
    room = await alice.create_room(preset="public_chat", initial_state=state)
    await told(bob, room)
    event = await stick(alice, room, "one")
    await bob.join(room)
    assert ids(await told(bob, room)) == [event]
    assert await told(bob, room) == []
    # Where the timeline reaches back to it, it stands there, and nothing else of before.
    answer = await (await bob.new_device()).get("/sync")
    section = answer["rooms"]["join"][room]
    assert STICKY not in section
    assert event in ids(section["timeline"]["events"])
    # Whoever is not in the room is told nothing.
    carol = await server.register("carol")
    assert await told(carol, room) == []


async def test_what_is_over_or_redacted_is_like_any_other_event(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await stick(alice, room, "over", 0)
    redacted = await stick(alice, room, "redacted")
    kept = await stick(alice, room, "kept")
    await alice.redact(room, redacted)
    await alice.send(room, "the last")
    assert ids(await told(bob, room)) == [kept]
    shown = await bob.get("/rooms/{}/event/{}", room, redacted)
    assert STICKY not in shown
    assert REMAINING not in shown["unsigned"]


@pytest.mark.parametrize("duration", [-1, 3_600_001, "soon"])
async def test_durations_that_are_none(server: Server, duration: Any) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    path = "/rooms/{}/send/{}/{}"
    await alice.put(path, room, RTC, "t", json={}, params={FOR: duration}, expect=(400, "M_INVALID_PARAM"))


async def test_with_a_delay_it_is_sticky_when_it_is_sent(server: Server) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    delay_id = await stick(alice, room, "later", 500_000, **{"org.matrix.msc4140.delay": 3_600_000})
    await told(alice, room)
    await alice.post("/_matrix/client/unstable/org.matrix.msc4140/delayed_events/{}/send", delay_id)
    await alice.send(room, "and a message")
    (shown,) = await told(alice, room)
    assert shown[STICKY] == {"duration_ms": 500_000}


async def test_ignored_users_are_not_told_of(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await bob.put(
        "/user/{}/account_data/{}",
        bob.user_id,
        "m.ignored_user_list",
        json={"ignored_users": {alice.user_id: {}}},
    )
    await told(bob, room)
    await stick(alice, room, "one")
    await alice.send(room, "x")
    assert await told(bob, room) == []


async def test_a_sender_is_heard_with_so_many(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeserver.graph.write.sticky.MAX_OF_SENDER", 3)
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    first = await stick(bob, room, "bob")
    sent = [await stick(alice, room, str(number)) for number in range(5)]
    await alice.send(room, "x")
    assert ids(await told(bob, room)) == [first, *sent[-3:]]


async def test_sliding_sync_pages_through_them(server: Server) -> None:
    """MSC4480: the oldest first, a token that the client hands back, nothing that the timeline has."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    client = Connection(bob, everything(1), extensions={EXTENSION: {"limit": 2}})
    first = await client.sync()
    assert EXTENSION not in first["extensions"], "nothing is sticky"
    position = f"s{server.app.core.tail.position}"
    client.extensions[EXTENSION]["since"] = position
    sent = [await stick(alice, room, str(number)) for number in range(4)]
    heard: list[str] = []
    for _ in range(4):
        reply = await client.sync()
        found = reply["extensions"].get(EXTENSION)
        if found is None:
            break
        client.extensions[EXTENSION]["since"] = found["next_batch"]
        heard += ids(found["rooms"].get(room, {"events": []})["events"])
    assert heard == sent, "what stood in the timeline of another answer is told, too"
    assert EXTENSION not in (await client.sync())["extensions"]

    # A connection that begins anew is told all that is sticky still, with how long it is.
    again = Connection(bob, {}, extensions={EXTENSION: {}}, name="again")
    assert EXTENSION not in (await again.sync())["extensions"], "no list has the room"
    again = Connection(bob, everything(1), extensions={EXTENSION: {}}, name="third")
    found = (await again.sync())["extensions"][EXTENSION]["rooms"][room]["events"]
    assert ids(found) == sent[:3], "the last one stands in the timeline"
    assert found[0]["unsigned"][REMAINING] > 500_000


async def test_a_server_started_anew_knows_them(server: Server) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    event = await stick(alice, room, "one")
    await alice.send(room, "x")
    server.app.core.sticky.reset()
    server.app.core.events.clear()
    assert ids(await told(alice, room)) == [event]
