"""Sending and redacting as clients did before transaction ids: a POST is done each time."""

from tests.support.server import Server

SEND = "/rooms/{}/send/m.room.message"


async def test_a_message_is_sent_each_time(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room()
    body = {"msgtype": "m.text", "body": "hello"}
    ids = [(await alice.post(SEND, room, json=body))["event_id"] for _ in range(2)]
    assert len(set(ids)) == 2
    shown = await alice.get("/rooms/{}/event/{}", room, ids[0])
    assert "transaction_id" not in shown["unsigned"]
    await bob.post(SEND, room, json=body, expect=(403, "M_FORBIDDEN"))


async def test_an_annotation_is_still_one(server: Server) -> None:
    """REL-07."""
    alice = await server.register("alice")
    room = await alice.create_room()
    parent = await alice.send(room, "parent")
    body = {"m.relates_to": {"rel_type": "m.annotation", "event_id": parent, "key": "+"}}
    await alice.post("/rooms/{}/send/m.reaction", room, json=body)
    await alice.post("/rooms/{}/send/m.reaction", room, json=body, expect=(400, "M_DUPLICATE_ANNOTATION"))


async def test_a_message_is_redacted(server: Server) -> None:
    """RED-01."""
    alice = await server.register("alice")
    room = await alice.create_room()
    sent = await alice.send(room, "gone")
    redaction = await alice.post("/rooms/{}/redact/{}", room, sent, json={"reason": "why"})
    shown = await alice.get("/rooms/{}/event/{}", room, sent)
    assert shown["content"] == {}
    assert shown["unsigned"]["redacted_because"]["event_id"] == redaction["event_id"]
    await alice.post("/rooms/{}/redact/{}", room, "$nothing", json={}, expect=(404, "M_NOT_FOUND"))
