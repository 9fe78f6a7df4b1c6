"""What services do: as whom they act, what is theirs alone, when their events were said. CHECKLIST AS-04, AS-09 to AS-14, AS-19."""

from typing import Any

import pytest

from tests.integration.appservices.conftest import Bridged, StartBridged
from tests.support.appservice import FakeService

NAMES = {
    "users": [{"regex": "@_irc_.*", "exclusive": True}],
    "aliases": [{"regex": "#_irc_.*", "exclusive": True}],
    "rooms": [],
}


async def test_it_acts_as_its_users(bridged: Bridged) -> None:
    """AS-09: 403 for others; without a name as its sender. AS-10: as a device of theirs, if there is such."""
    server, bridge = bridged.server, bridged.bridge
    client = server.client
    ghost = await bridge.register(client, "_irc_bob")
    alice = await server.register("alice")
    room = await alice.create_room(preset="public_chat")
    await client.post("/join/{}", room, **bridge.as_user(ghost))
    event_id = (
        await client.put(
            "/rooms/{}/send/m.room.message/1",
            room,
            json={"msgtype": "m.text", "body": "x"},
            **bridge.as_user(ghost),
        )
    )["event_id"]
    assert (await alice.event(room, event_id))["sender"] == ghost
    for other in (alice.user_id, "@_irc_unknown:localhost", "@_irc_bob:elsewhere.example"):
        await client.get("/account/whoami", expect=(403, "M_FORBIDDEN"), **bridge.as_user(other))
    unknown = bridge.as_user(ghost, device_id="NONE")
    await client.get("/account/whoami", expect=(400, "M_UNKNOWN_DEVICE"), **unknown)
    await client.put("/devices/{}", "D", json={}, expect=201, **bridge.as_user(ghost))
    for name in ("device_id", "org.matrix.msc3202.device_id"):
        me = await client.get("/account/whoami", **bridge.as_user(ghost, **{name: "D"}))
        assert me == {"user_id": ghost, "device_id": "D"}


async def test_registering_and_logging_in(bridged: Bridged) -> None:
    """AS-12, AS-04."""
    server, bridge = bridged.server, bridged.bridge
    body: dict[str, Any] = {"type": "m.login.application_service", "username": "_irc_bob"}
    made = await server.client.post("/register", json=body, token=bridge.as_token)
    assert (await server.user(made).get("/account/whoami"))["user_id"] == "@_irc_bob:localhost"
    await server.client.post("/register", json=body, token="nobody's", expect=(401, "M_UNKNOWN_TOKEN"))
    outside = {**body, "username": "bob"}
    await server.client.post("/register", json=outside, token=bridge.as_token, expect=(400, "M_EXCLUSIVE"))
    for name in ("_irc_carol", bridge.sender):
        mine = {"username": name, "password": "x"}
        await server.client.post("/register", json=mine, expect=(400, "M_EXCLUSIVE"))
        await server.client.get("/register/available", params={"username": name}, expect=(400, "M_EXCLUSIVE"))
    login = {"type": body["type"], "identifier": {"type": "m.id.user", "user": "_irc_bob"}}
    assert (await server.client.post("/login", json=login, token=bridge.as_token))["user_id"] == made[
        "user_id"
    ]
    alice = await server.register("alice")
    login["identifier"] = {"type": "m.id.user", "user": alice.user_id}
    await server.client.post("/login", json=login, token=bridge.as_token, expect=(400, "M_EXCLUSIVE"))


async def test_aliases_are_whose_they_are(start_bridged: StartBridged) -> None:
    """AS-04: others get M_EXCLUSIVE inside, the service outside, however the alias is given or taken."""
    bridged = await start_bridged(FakeService(namespaces=NAMES))
    server, bridge = bridged.server, bridged.bridge
    alice = await server.register("alice")
    room = await alice.create_room()
    inside, outside = "#_irc_x:localhost", "#x:localhost"
    put = {"json": {"room_id": room}}
    await alice.put("/directory/room/{}", inside, expect=(400, "M_EXCLUSIVE"), **put)
    await alice.create_room(room_alias_name="_irc_x", expect=400)
    as_bridge = {"token": bridge.as_token}
    await server.client.put("/directory/room/{}", outside, expect=(400, "M_EXCLUSIVE"), **put, **as_bridge)
    await server.client.put("/directory/room/{}", inside, **put, **as_bridge)
    await alice.delete("/directory/room/{}", inside, expect=(400, "M_EXCLUSIVE"))
    await server.client.delete("/directory/room/{}", inside, **as_bridge)
    await alice.put("/directory/room/{}", outside, **put)
    await server.client.delete("/directory/room/{}", outside, expect=(400, "M_EXCLUSIVE"), **as_bridge)
    await alice.delete("/directory/room/{}", outside)


async def test_it_says_when_its_events_were_said(bridged: Bridged) -> None:
    """AS-11: on send and state, for services alone; what is no moment is refused."""
    server, bridge = bridged.server, bridged.bridge
    alice = await server.register("alice")
    room = await alice.create_room(preset="public_chat", power_level_content_override={"users_default": 100})
    await server.client.post("/join/{}", room, token=bridge.as_token)
    then = 1_234_567_890_123
    message = {"msgtype": "m.text", "body": "long ago"}
    options: dict[str, Any] = {"token": bridge.as_token, "params": {"ts": then}}
    sent = await server.client.put("/rooms/{}/send/m.room.message/1", room, json=message, **options)
    assert (await alice.event(room, sent["event_id"]))["origin_server_ts"] == then
    topic = await server.client.put("/rooms/{}/state/m.room.topic", room, json={"topic": "old"}, **options)
    assert (await alice.event(room, topic["event_id"]))["origin_server_ts"] == then
    by_key = await server.client.put("/rooms/{}/state/{}/{}", room, "x", "y", json={}, **options)
    assert (await alice.event(room, by_key["event_id"]))["origin_server_ts"] == then
    own = await alice.send_event(room, "m.room.message", message, ts=then)
    assert (await alice.event(room, own))["origin_server_ts"] != then
    # Nowhere else.
    redacted = await server.client.put("/rooms/{}/redact/{}/2", room, own, json={}, **options)
    assert (await alice.event(room, redacted["event_id"]))["origin_server_ts"] != then
    await server.client.post("/rooms/{}/leave", room, **options)
    left = await alice.get(
        "/rooms/{}/state/{}/{}", room, "m.room.member", bridge.sender_id, params={"format": "event"}
    )
    assert left["content"]["membership"] == "leave"
    assert left["origin_server_ts"] != then
    await server.client.post("/join/{}", room, token=bridge.as_token)
    for bad in ("yesterday", -1, 2**53):
        options = {"token": bridge.as_token, "params": {"ts": bad}, "expect": (400, "M_INVALID_PARAM")}
        await server.client.put("/rooms/{}/send/m.room.message/2", room, json=message, **options)
        await server.client.put("/rooms/{}/state/m.room.topic", room, json={"topic": "new"}, **options)


@pytest.mark.parametrize("limited", [True, False])
async def test_its_users_are_limited_if_it_says_so(start_bridged: StartBridged, limited: bool) -> None:
    """AS-14: the sender never is."""
    service = FakeService(options={"rate_limited": limited})
    rate_limits = {"enabled": True, "message": {"per_second": 0.1, "burst": 3}}
    server = (await start_bridged(service, rate_limits=rate_limits)).server
    ghost = await service.register(server.client, "_irc_bob")
    room = (await server.client.post("/createRoom", json={"preset": "public_chat"}, token=service.as_token))[
        "room_id"
    ]
    await server.client.post("/join/{}", room, **service.as_user(ghost))

    async def say(number: int, expect: int, **options: Any) -> None:
        path = f"/rooms/{{}}/send/m.room.message/{number}"
        body = {"msgtype": "m.text", "body": "x"}
        await server.client.put(path, room, json=body, expect=expect, **options)

    for number in range(10):
        await say(number, 200, token=service.as_token)
    for number in range(10):
        await say(number, 429 if limited and number > 2 else 200, **service.as_user(ghost))


@pytest.mark.parametrize("path", ["/sync", "/events"])
async def test_it_syncs_as_a_user_it_names(bridged: Bridged, path: str) -> None:
    """AS-19: its sender, too, has to be named."""
    server, bridge = bridged.server, bridged.bridge
    for _ in range(2):  # from the database, then from memory
        await server.client.get(
            path, token=bridge.as_token, params={"timeout": 0}, expect=(403, "M_FORBIDDEN")
        )
        await server.client.get(path, **bridge.as_user(bridge.sender_id, timeout=0))
    sliding = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
    await server.client.post(sliding, token=bridge.as_token, expect=(403, "M_FORBIDDEN"))
