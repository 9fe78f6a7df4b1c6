"""What clients say to each other about calls."""

from tests.conftest import StartServer


async def test_call_events_are_relayed_untouched(start_server: StartServer) -> None:
    """VOIP-01"""
    server = await start_server()
    alice, bob = await server.register("alice"), await server.register("bob")
    room = await alice.create_room(preset="public_chat")
    await bob.join(room)
    said = {
        "m.call.invite": {"call_id": "c", "version": "1", "offer": {"type": "offer", "sdp": "v=0\r\n"}},
        "m.call.candidates": {"call_id": "c", "version": "1", "candidates": [{"candidate": "", "x": [1]}]},
        "org.example.m.call.of.ones.own": {"anything": {"b": 1, "a": None}},
    }
    for kind, content in said.items():
        event = await alice.put("/rooms/{}/send/{}/{}", room, kind, "t", json=content)
        assert (await bob.get("/rooms/{}/event/{}", room, event["event_id"]))["content"] == content
