"""Two Atriums and nothing scripted: what one sends the other takes."""

from typing import Any

from tests.support.federation import Federation
from tests.support.server import Server
from tests.support.user import User
from tests.support.waiting import until


async def shared(federation: Federation) -> tuple[Server, User, Server, User, str]:
    """Alice's room, and bob of another server in it."""
    here, there = await federation.start(), await federation.start()
    alice, bob = await here.register("alice"), await there.register("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id, via=[here.name])
    return here, alice, there, bob, room_id


async def test_messages_and_state_go_both_ways(federation: Federation) -> None:
    """FED-08, FED-10."""
    _, alice, _, bob, room_id = await shared(federation)
    await bob.send(room_id, "from there")
    await alice.sees(room_id, "from there")
    await alice.send(room_id, "from here")
    await bob.sees(room_id, "from here")
    await alice.put_state(room_id, "m.room.topic", {"topic": "both"})

    async def told() -> bool:
        events = (await bob.messages(room_id, limit=20))["chunk"]
        return any(each["content"].get("topic") == "both" for each in events)

    await until(told)


async def test_typing_and_receipts_go_over(federation: Federation) -> None:
    """FED-29, FED-35."""
    _, alice, _, bob, room_id = await shared(federation)
    said = await alice.send(room_id, "hi")
    await bob.sees(room_id, "hi")
    await bob.put(f"/rooms/{room_id}/typing/{bob.user_id}", json={"typing": True})
    await bob.post(f"/rooms/{room_id}/receipt/m.read/{said}", json={})

    async def told() -> bool:
        reply: dict[str, Any] = await alice.sync(since=None)
        events = reply["rooms"]["join"][room_id].get("ephemeral", {"events": []})["events"]
        found = {event["type"]: event["content"] for event in events}
        typing = found.get("m.typing", {}).get("user_ids", [])
        return bob.user_id in typing and bob.user_id in found.get("m.receipt", {}).get(said, {}).get(
            "m.read", {}
        )

    await until(told)
