"""EDUs of another server: typing, receipts, presence; nobody is heard who is not in the room, or not that server's user."""

from typing import Any

import pytest

from federation.inbound.edus import EduDispatcher, InvalidEdu
from homeserver.matrix.errors import Unavailable
from homeserver.matrix.ids import ServerName
from tests.integration.federation.test_send import joined
from tests.support.federation import Federation
from tests.support.remote_room import TEXT, RemoteRoom
from tests.support.user import User
from tests.support.waiting import until


def typing(room: RemoteRoom, user_id: str, is_typing: Any = True) -> dict[str, Any]:
    content = {"room_id": room.room_id, "user_id": user_id, "typing": is_typing}
    return {"edu_type": "m.typing", "content": content}


def receipt(room: RemoteRoom, user_id: str, event_id: str, **data: Any) -> dict[str, Any]:
    said = {"event_ids": [event_id], "data": {"ts": 1_700_000_000_000, **data}}
    return {"edu_type": "m.receipt", "content": {room.room_id: {"m.read": {user_id: said}}}}


async def ephemeral(alice: User, room: RemoteRoom) -> dict[str, Any]:
    """Type -> content, of all that is there."""
    reply = await alice.sync(since=None)
    events = reply["rooms"]["join"][room.room_id].get("ephemeral", {"events": []})["events"]
    return {event["type"]: event["content"] for event in events}


async def test_typing_comes_and_ends(federation: Federation) -> None:
    """FED-29."""
    _, alice, room = await joined(federation)
    bob = room.remote.user("bob")
    await room.send(edus=[typing(room, bob)])
    assert (await ephemeral(alice, room))["m.typing"]["user_ids"] == [bob]
    await room.send(edus=[typing(room, bob, False)])
    assert not (await ephemeral(alice, room)).get("m.typing", {}).get("user_ids")


async def test_who_is_not_in_the_room_or_not_theirs_is_not_shown(federation: Federation) -> None:
    """FED-29. Synapse shows typing and receipts of users who are not in the room."""
    _, alice, room = await joined(federation)
    said = await alice.send(room.room_id, "hi")
    stranger = room.remote.user("stranger")
    others = [stranger, alice.user_id, "@bob:else", "bob", "", None, 5]
    edus = [typing(room, user) for user in others]
    edus += [receipt(room, str(user), said) for user in others]
    edus += [typing(room, room.remote.user("bob"), "yes")]
    await room.send(edus=edus)
    assert await ephemeral(alice, room) == {}


async def test_receipts_come_with_their_thread(federation: Federation) -> None:
    """FED-35."""
    _, alice, room = await joined(federation)
    said = await alice.send(room.room_id, "hi")
    bob = room.remote.user("bob")
    await room.send(edus=[receipt(room, bob, said, thread_id="main")])
    told = (await ephemeral(alice, room))["m.receipt"][said]["m.read"][bob]
    assert told == {"ts": 1_700_000_000_000, "thread_id": "main"}
    await room.send(edus=[receipt(room, bob, said, thread_id="$no_such_thread")])
    assert list((await ephemeral(alice, room))["m.receipt"]) == [said]


async def test_receipts_only_go_forwards_and_private_ones_are_not_taken(federation: Federation) -> None:
    _, alice, room = await joined(federation)
    first, second = await alice.send(room.room_id, "1"), await alice.send(room.room_id, "2")
    bob = room.remote.user("bob")
    await room.send(edus=[receipt(room, bob, second), receipt(room, bob, first)])
    private = receipt(room, bob, first)
    private["content"][room.room_id] = {"m.read.private": private["content"][room.room_id]["m.read"]}
    await room.send(edus=[private])
    assert list((await ephemeral(alice, room))["m.receipt"]) == [second]


async def test_a_receipt_waits_for_its_event(federation: Federation) -> None:
    """In one transaction with the event, and long before it."""
    _, alice, room = await joined(federation)
    bob = room.remote.user("bob")
    events = room.chain("bob", 2)
    await room.send(edus=[receipt(room, bob, events[1].event_id)])
    await room.send(events[0], edus=[receipt(room, bob, events[0].event_id)])
    await room.send(events[1])
    await room.arrives(*events)

    async def there() -> bool:
        return list((await ephemeral(alice, room)).get("m.receipt", {})) == [events[1].event_id]

    await until(there)


async def test_presence_of_those_who_are_in_a_room_here(federation: Federation) -> None:
    """FED-29."""
    _, alice, room = await joined(federation, presence={"enabled": True})
    bob = room.remote.user("bob")
    pushed = [
        {"user_id": bob, "presence": "online", "last_active_ago": 10, "status_msg": "here"},
        {"user_id": room.remote.user("nobody"), "presence": "online", "last_active_ago": 10},
        {"user_id": alice.user_id, "presence": "unavailable", "last_active_ago": 10, "status_msg": "forged"},
        {"user_id": bob, "presence": "elsewhere", "last_active_ago": 10},
        {"user_id": bob, "presence": "offline", "last_active_ago": -1},
        None,
    ]
    await room.send(edus=[{"edu_type": "m.presence", "content": {"push": pushed}}])
    reply = await alice.sync(since=None)
    told = {event["sender"]: event["content"] for event in reply["presence"]["events"]}
    assert told[bob]["presence"] == "online"
    assert told[bob]["status_msg"] == "here"
    assert told.get(alice.user_id, {}).get("status_msg") != "forged"
    assert room.remote.user("nobody") not in told


async def test_a_denied_server_is_not_heard(federation: Federation) -> None:
    """ACL-03."""
    _, alice, room = await joined(federation)
    said = await alice.send(room.room_id, "hi")
    await alice.put_state(room.room_id, "m.room.server_acl", {"allow": ["good.example"]})
    bob = room.remote.user("bob")
    await room.send(edus=[typing(room, bob), receipt(room, bob, said)])
    assert await ephemeral(alice, room) == {}


async def test_a_flood_of_nonsense_harms_nobody(federation: Federation) -> None:
    """Unknown types, deep nesting, much of it; what is good among it is heard."""
    _, alice, room = await joined(federation)
    bob = room.remote.user("bob")
    nested: Any = {}
    for _ in range(90):
        nested = {"x": nested}
    junk = [
        {"edu_type": "org.example.unknown", "content": {"x": "y" * 1000}},
        {"edu_type": "m.typing", "content": nested},
        {"edu_type": "m.receipt", "content": {f"!{n}:x": {"m.read": {bob: {}}} for n in range(500)}},
        {
            "edu_type": "m.receipt",
            "content": {room.room_id: {"m.read": {f"@{n}:x": {} for n in range(2_000)}}},
        },
        {"edu_type": "m.presence", "content": {"push": [{}] * 600}},
    ]
    for _ in range(5):
        await room.send(edus=junk * 6 + [typing(room, bob)])
    assert (await ephemeral(alice, room))["m.typing"]["user_ids"] == [bob]
    event = room.says("bob", "m.room.message", TEXT)
    await room.send(event, edus=junk)
    await room.arrives(event)


async def test_a_fault_with_one_edu_does_not_stop_the_others_but_a_lost_database_does() -> None:
    """What was not done is not acknowledged: to-device messages will need that."""
    import msgspec

    heard: list[Any] = []

    async def handler(origin: ServerName, content: Any) -> None:
        heard.append((origin, content["n"]))
        if content["n"] == 1:
            raise KeyError("ours")
        if content["n"] == 2:
            raise InvalidEdu("theirs")
        if content["n"] == 4:
            raise Unavailable("the database is away")

    edus = EduDispatcher()
    edus.register("x", handler)
    raw = [msgspec.Raw(msgspec.json.encode({"edu_type": "x", "content": {"n": n}})) for n in range(5)]
    await edus.dispatch(ServerName("a"), raw[:4])
    assert [n for _, n in heard] == [0, 1, 2, 3]
    with pytest.raises(Unavailable):
        await edus.dispatch(ServerName("a"), raw)
