"""The verbs that plays are written with, on a running server: what each says, and that its answers keep the contract."""

import pytest

from tests.support.server import Server


async def test_people_meet_talk_and_part(server: Server) -> None:
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    room = await alice.create_room(name="Tea", preset="private_chat")
    await alice.invite(room, bob)
    await bob.sync_until(lambda reply: room in reply.get("rooms", {}).get("invite", {}))
    await bob.join(room)
    await alice.send(room, "hello bob")
    hello = await bob.sees(room, "hello bob")
    assert hello["sender"] == alice.user_id

    await alice.redact(room, hello["event_id"], "typo")
    await bob.sees(room, lambda event: event["type"] == "m.room.redaction")
    assert (await bob.event(room, hello["event_id"]))["content"] == {}

    await alice.put_state(room, "m.room.topic", {"topic": "biscuits"})
    assert (await bob.state(room, "m.room.topic"))["topic"] == "biscuits"
    await bob.put_state(room, "m.room.topic", {"topic": "cake"}, expect=(403, "M_FORBIDDEN"))
    await carol.join(room, expect=(403, "M_FORBIDDEN"))

    await alice.ban(room, bob, reason="cake")
    assert await alice.members(room) == {alice.user_id: "join", bob.user_id: "ban"}
    await alice.unban(room, bob)
    await alice.invite(room, bob.user_id)
    await bob.join(room)
    await alice.kick(room, bob)
    await alice.sync()
    await alice.leave(room)
    left = await alice.sync()
    assert room in left["rooms"]["leave"]


async def test_one_person_on_two_devices(server: Server) -> None:
    phone = await server.register("alice")
    laptop = await phone.new_device("LAPTOP")
    assert (laptop.device_id, laptop.user_id) == ("LAPTOP", phone.user_id)
    assert phone.token != laptop.token
    room = await phone.create_room()
    await laptop.sees(room, lambda event: event["type"] == "m.room.create")
    await phone.logout()
    await phone.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    await laptop.send(room, "still here")
    again = await server.login(laptop.user_id)
    assert again.user_id == laptop.user_id
    await server.login(laptop.user_id, "wrong", expect=(403, "M_FORBIDDEN"))


async def test_waiting_for_what_never_comes_is_told(server: Server) -> None:
    alice = await server.register("alice")
    room = await alice.create_room()
    with pytest.raises(AssertionError, match="never saw"):
        await alice.sees(room, "anything", timeout=0.3)
