"""Filters and the shape of events: CHECKLIST section 6."""

import json
import time
from typing import Any

import pytest

from tests.support.server import Server
from tests.support.user import User

FILTER = "/user/{}/filter"
TOPIC = "m.room.topic"


async def bodies(user: User, room: str, **timeline: Any) -> list[str]:
    """What of the room's conversation a sync with this timeline filter shows; other kinds by their type."""
    reply = await user.sync(since=None, filter={"room": {"timeline": {"limit": 50, **timeline}}})
    events = reply.get("rooms", {}).get("join", {}).get(room, {}).get("timeline", {}).get("events", [])
    return [event["content"].get("body", event["type"]) for event in events]


async def test_filters_are_kept_for_their_owner(server: Server) -> None:
    """FILT-01."""
    alice, bob = await server.register("alice"), await server.register("bob")
    wanted = {"room": {"timeline": {"limit": 1, "types": ["m.room.message"]}}}
    filter_id = (await alice.post(FILTER, alice.user_id, json=wanted))["filter_id"]
    assert not filter_id.startswith("{")
    assert await alice.get(FILTER + "/{}", alice.user_id, filter_id) == wanted
    await alice.get(FILTER + "/{}", alice.user_id, "nonsense", expect=(404, "M_NOT_FOUND"))
    await alice.get(FILTER + "/{}", alice.user_id, "99999", expect=(404, "M_NOT_FOUND"))
    await bob.get(FILTER + "/{}", alice.user_id, filter_id, expect=(403, "M_FORBIDDEN"))
    await bob.post(FILTER, alice.user_id, json=wanted, expect=(403, "M_FORBIDDEN"))
    room = await alice.create_room()
    await alice.send(room, "one")
    two = await alice.send(room, "two")
    for given in (filter_id, wanted):
        timeline = (await alice.sync(since=None, filter=given))["rooms"]["join"][room]["timeline"]
        assert [e["event_id"] for e in timeline["events"]] == [two]
    await alice.sync(filter="77777", expect=400)
    await alice.sync(filter="{broken", expect=400)


async def test_a_filter_names_users_and_rooms_that_can_be(server: Server) -> None:
    """FILT-01."""
    alice = await server.register("alice")
    for wrong in (
        {"presence": {"senders": ["alice"]}},
        {"account_data": {"not_senders": ["@alice:localhost", "!room:localhost"]}},
        {"room": {"rooms": ["@alice:localhost"]}},
        {"room": {"timeline": {"not_rooms": [""]}}},
        {"room": {"state": {"senders": ["%@#$"]}}},
    ):
        await alice.post(FILTER, alice.user_id, json=wrong, expect=(400, "M_INVALID_PARAM"))
    for right in (
        {"room": {"state": {"senders": ["@alice:localhost"], "rooms": ["!a:localhost"]}}},
        {"org.example": {"senders": 5, "rooms": {"rooms": None}}},
    ):
        await alice.post(FILTER, alice.user_id, json=right)


async def test_a_filter_has_bounds(server: Server) -> None:
    """FILT-01, FILT-02: what asking it costs is bounded, not only its size."""
    alice = await server.register("alice")
    hungry = {"room": {"timeline": {"types": ["a*" * 30, "*b" * 35]}}}
    await alice.post(FILTER, alice.user_id, json=hungry, expect=(400, "M_BAD_JSON"))
    await alice.sync(filter=hungry, expect=(400, "M_BAD_JSON"))
    fields = {"event_fields": ["a"] * 300}
    await alice.post(FILTER, alice.user_id, json=fields, expect=(400, "M_BAD_JSON"))
    await alice.post(FILTER, alice.user_id, json={"a": "x" * 200_000}, expect=(413, "M_TOO_LARGE"))
    room = await alice.create_room()
    await alice.send_event(room, "a" * 250, {})
    began = time.thread_time()
    page = await alice.messages(room, filter={"types": ["*a" * 63 + "*b", "a" * 250]})
    assert [event["type"] for event in page["chunk"]] == ["a" * 250]
    assert time.thread_time() - began < 1


async def test_what_a_timeline_filter_lets_through(server: Server) -> None:
    """FILT-02, FILT-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    await alice.send(room, "from alice")
    await bob.send(room, "from bob")
    await alice.send(room, "picture", url="mxc://localhost/a")
    await alice.send_event(room, "org.example.kind", {"body": "custom"})
    assert await bodies(alice, room, types=["m.room.message"]) == ["from alice", "from bob", "picture"]
    assert await bodies(alice, room, types=["m.room.mess*", "org.*"]) == [
        "from alice",
        "from bob",
        "picture",
        "custom",
    ]
    assert await bodies(alice, room, types=["m.room.message"], not_types=["m.*"]) == []
    assert await bodies(alice, room, types=[]) == []
    assert await bodies(alice, room, senders=[bob.user_id], types=["m.room.message"]) == ["from bob"]
    assert "from bob" not in await bodies(alice, room, not_senders=[bob.user_id])
    both = {"senders": [bob.user_id], "not_senders": [bob.user_id]}
    assert await bodies(alice, room, **both) == []
    assert await bodies(alice, room, contains_url=True) == ["picture"]
    assert "picture" not in await bodies(alice, room, contains_url=False)


async def test_rooms_are_chosen_before_their_sections(server: Server) -> None:
    """FILT-03: `room.rooms` before `room.timeline.rooms`, and for account data and ephemeral events too."""
    alice = await server.register("alice")
    here, there = await alice.create_room(), await alice.create_room()
    tag = "/user/{}/rooms/{}/tags/{}"
    for room in (here, there):
        await alice.put(tag, alice.user_id, room, "m.favourite", json={"order": 0.5})
    only = {"room": {"rooms": [here], "timeline": {"rooms": [here, there]}}}
    assert set((await alice.sync(since=None, filter=only))["rooms"]["join"]) == {here}
    neither = {"room": {"rooms": [here], "not_rooms": [here]}}
    assert not (await alice.sync(since=None, filter=neither)).get("rooms", {}).get("join")
    nothing: dict[str, Any] = {"room": {"account_data": {"types": []}, "state": {"types": []}}}
    section = (await alice.sync(since=None, filter=nothing))["rooms"]["join"][here]
    assert not section.get("account_data", {}).get("events")
    assert not section.get("state", {}).get("events")
    quiet: dict[str, Any] = {"account_data": {"types": []}, "presence": {"types": []}}
    reply = await alice.sync(since=None, filter=quiet)
    assert not reply.get("account_data", {}).get("events")


async def test_sections_choose_rooms_of_their_own(server: Server) -> None:
    """FILT-03: `rooms` and `not_rooms` of each section."""
    alice = await server.register("alice")
    here, there = await alice.create_room(), await alice.create_room()
    for room in (here, there):
        await alice.put("/user/{}/rooms/{}/tags/{}", alice.user_id, room, "m.favourite", json={})
        event_id = await alice.send(room, "said")
        await alice.post("/rooms/{}/receipt/m.read/{}", room, event_id)

    def filled(reply: dict[str, Any], name: str) -> set[str]:
        rooms = reply.get("rooms", {}).get("join", {})
        return {room for room, section in rooms.items() if section.get(name, {}).get("events")}

    for name in ("timeline", "state", "ephemeral", "account_data"):
        for choice in (
            {"rooms": [here]},
            {"not_rooms": [there]},
            {"rooms": [here, there], "not_rooms": [there]},
        ):
            few = {"timeline": {"limit": 1}}
            reply = await alice.sync(
                since=None, filter={"room": {**few, name: {**few.get(name, {}), **choice}}}
            )
            assert filled(reply, name) == {here}, (name, choice)
            if name == "timeline":  # what the timeline does not show is in the state
                assert "m.room.create" in str(reply["rooms"]["join"][there]["state"])
            others = {"timeline", "state", "ephemeral", "account_data"} - {name}
            assert all(filled(reply, other) == {here, there} for other in others), (name, choice)
    await alice.send(there, "more")
    await alice.send(here, "more")
    reply = await alice.sync(filter={"room": {"timeline": {"not_rooms": [there]}}})
    assert filled(reply, "timeline") == {here}
    page = await alice.messages(here, filter={"not_rooms": [here]})
    assert page["chunk"] == []


async def test_a_filter_of_messages(server: Server) -> None:
    """FILT-02, ROOM-22."""
    alice = await server.register("alice")
    room = await alice.create_room(name="Name")
    await alice.send(room, "one")
    page = await alice.messages(room, filter={"types": ["m.room.name"]}, limit=50)
    assert [e["type"] for e in page["chunk"]] == ["m.room.name"]
    page = await alice.messages(room, filter={"not_types": ["m.room.*"]}, limit=50)
    assert page["chunk"] == []
    assert "end" not in page


async def test_fields_can_be_chosen(server: Server) -> None:
    """FILT-03: dots in names are escaped."""
    alice = await server.register("alice")
    room = await alice.create_room()
    content = {"msgtype": "m.text", "body": "body", "a.b": {"c": 1}, "other": 2}
    await alice.send_event(room, "m.room.message", content)
    # The schema of the answer asks for these whatever the filter says.
    required = ["type", "event_id", "sender", "origin_server_ts"]
    wanted: dict[str, Any] = {
        "event_fields": [*required, "content.body", "content.a\\.b.c"],
        "room": {"timeline": {"limit": 1}, "state": {"types": []}},
    }
    event = (await alice.sync(filter=wanted))["rooms"]["join"][room]["timeline"]["events"][0]
    assert set(event) == {*required, "content"}
    assert event["content"] == {"body": "body", "a.b": {"c": 1}}


async def test_only_the_sending_device_is_told_its_transaction(server: Server) -> None:
    """`transaction_id`, and no federation fields; FILT-10."""
    alice = await server.register("alice")
    tablet = await alice.new_device()
    room = await alice.create_room()
    event_id = await alice.send_event(room, "m.room.message", {"msgtype": "m.text", "body": "x"}, txn="mine")
    assert (await alice.event(room, event_id))["unsigned"]["transaction_id"] == "mine"
    assert "transaction_id" not in (await tablet.event(room, event_id)).get("unsigned", {})
    shown = [await user.sees(room, "x") for user in (alice, tablet)]
    assert [e.get("unsigned", {}).get("transaction_id") for e in shown] == ["mine", None]
    for event in (*shown, await alice.event(room, event_id)):
        assert not {"auth_events", "prev_events", "hashes", "signatures", "depth"} & set(event)
    assert "room_id" not in shown[0]
    assert (await alice.event(room, event_id))["room_id"] == room


async def test_events_say_what_the_reader_was_then(server: Server) -> None:
    """FILT-07."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    before = await alice.send(room, "before")
    await alice.invite(room, bob)
    invited = await alice.send(room, "invited")
    await bob.join(room)
    after = await alice.send(room, "after")
    found = [(await bob.event(room, e))["unsigned"]["membership"] for e in (before, invited, after)]
    assert found == ["leave", "invite", "join"]
    topics = [await alice.put_state(room, TOPIC, {"topic": "after"})]
    states = {e["event_id"]: e["unsigned"].get("membership") for e in await bob.get("/rooms/{}/state", room)}
    assert states[topics[0]] == "join"
    assert set(states.values()) == {"join", None}, "it may be left out, but not be wrong"


def unsigned_of(events: list[dict[str, Any]], event_id: str) -> dict[str, Any]:
    return next(dict(event["unsigned"]) for event in events if event["event_id"] == event_id)


async def previous_seen(user: User, room: str, event_id: str) -> list[Any]:
    """The `prev_content` of an event wherever the user can read it, `replaces_state` being there each time."""
    reply = await user.sync(since=None, filter={"room": {"timeline": {"limit": 50}}})
    whole = await user.sync(since=None, filter={"room": {"timeline": {"limit": 0}}})
    context = await user.get("/rooms/{}/context/{}", room, event_id)
    found = [
        unsigned_of(reply["rooms"]["join"][room]["timeline"]["events"], event_id),
        unsigned_of(whole["rooms"]["join"][room]["state"]["events"], event_id),
        unsigned_of((await user.messages(room, limit=50))["chunk"], event_id),
        unsigned_of([context["event"]], event_id),
        unsigned_of(context["state"], event_id),
        unsigned_of([await user.event(room, event_id)], event_id),
        unsigned_of(await user.get("/rooms/{}/state", room), event_id),
        unsigned_of(
            [await user.get("/rooms/{}/state/{}/", room, TOPIC, params={"format": "event"})], event_id
        ),
    ]
    assert all("replaces_state" in unsigned for unsigned in found)
    assert all(("prev_sender" in unsigned) == ("prev_content" in unsigned) for unsigned in found)
    return [unsigned.get("prev_content") for unsigned in found]


async def test_the_reader_is_told_what_state_was_replaced(server: Server) -> None:
    """FILT-06: `replaces_state` always, and `prev_content` to who may see its event."""
    alice, bob = await server.register("alice"), await server.register("bob")
    hidden = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room = await alice.create_room(preset="public_chat", initial_state=[hidden])
    await alice.put_state(room, TOPIC, {"topic": "secret"})
    await bob.join(room)
    second = await alice.put_state(room, TOPIC, {"topic": "open"})
    assert await previous_seen(alice, room, second) == [{"topic": "secret"}] * 8
    assert await previous_seen(bob, room, second) == [None] * 8
    third = await alice.put_state(room, TOPIC, {"topic": "later"})
    for user in (alice, bob):
        assert await previous_seen(user, room, third) == [{"topic": "open"}] * 8


async def test_an_open_past_shows_what_was_replaced(server: Server) -> None:
    """FILT-06: visibility `shared` lets those who came later see it, in the timeline at least."""
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await alice.put_state(room, TOPIC, {"topic": "first"})
    second = await alice.put_state(room, TOPIC, {"topic": "second"})
    await bob.join(room)
    reply = await bob.sync(filter={"room": {"timeline": {"limit": 50}}})
    shown = reply["rooms"]["join"][room]["timeline"]["events"]
    assert unsigned_of(shown, second)["prev_content"] == {"topic": "first"}
    assert (await bob.event(room, second))["unsigned"]["prev_content"] == {"topic": "first"}


async def test_readers_who_wake_together_are_told_of_the_past_each_their_own(server: Server) -> None:
    """FILT-06: long polls share what they are told, but not this."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    hidden = {"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}
    room = await alice.create_room(preset="public_chat", initial_state=[hidden])
    await carol.join(room)
    await alice.put_state(room, TOPIC, {"topic": "secret"})
    await bob.join(room)
    for user in (bob, carol):
        await user.sync()
    bob.since = carol.since
    second = await alice.put_state(room, TOPIC, {"topic": "open"})
    told = []
    for user in (carol, bob):
        section = (await user.sync())["rooms"]["join"][room]
        told.append(unsigned_of(section["timeline"]["events"], second).get("prev_content"))
    assert told == [{"topic": "secret"}, None]


async def test_what_was_replaced_is_redacted_with_its_event(server: Server) -> None:
    """FILT-06, RED-01: also in memory."""
    alice = await server.register("alice")
    room = await alice.create_room()
    first = await alice.put_state(room, TOPIC, {"topic": "shameful"})
    second = await alice.put_state(room, TOPIC, {"topic": "better"})
    assert (await alice.event(room, second))["unsigned"]["prev_content"] == {"topic": "shameful"}
    await alice.redact(room, first)
    assert "shameful" not in str(await alice.event(room, second))
    assert "shameful" not in str(await alice.sync(since=None))


@pytest.mark.parametrize(
    "wanted",
    [
        {"event_format": "x"},
        {"room": {"timeline": {"limit": -1}}},
        {"presence": {"limit": "ten"}},
        {"room": {"state": {"types": "m.room.name"}}},
    ],
    ids=str,
)
async def test_a_filter_that_means_nothing_is_not_stored(server: Server, wanted: dict[str, Any]) -> None:
    """FILT-01: with the place of the mistake."""
    alice = await server.register("alice")
    refused = await alice.post("/user/{}/filter", alice.user_id, json=wanted, expect=(400, "M_BAD_JSON"))
    assert "$." in refused["error"]
    await alice.sync(filter=json.dumps(wanted), expect=(400, "M_BAD_JSON"))
