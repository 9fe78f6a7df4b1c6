"""Ephemeral data and what encrypted bridges need: CHECKLIST AS-08, AS-10, AS-13; MSC2409, MSC3202, MSC4203, MSC4190."""

import json
from typing import Any

import pytest

from tests.integration.appservices.conftest import Bridged, StartBridged
from tests.support.appservice import FakeService
from tests.support.crypto import ONE_TIME, DeviceCrypto, Identity
from tests.support.server import Server
from tests.support.user import User

ENCRYPTED = {"receive_ephemeral": True, "org.matrix.msc3202": True, "io.element.msc4190": True}


async def in_a_room(bridged: Bridged, *names: str) -> tuple[User, str, list[str]]:
    """Alice, a room of hers, and ghosts in it."""
    server, bridge = bridged.server, bridged.bridge
    alice = await server.register("alice")
    room = await alice.create_room(preset="public_chat")
    ghosts = [await bridge.register(server.client, name) for name in names]
    for ghost in ghosts:
        await server.client.post("/join/{}", room, **bridge.as_user(ghost))
    await bridge.hears_event(await alice.send(room, "all are here"))
    return alice, room, ghosts


@pytest.mark.parametrize("name", ["receive_ephemeral", "de.sorunome.msc2409.push_ephemeral"])
async def test_typing_receipts_and_presence_are_told_who_wants_them(
    start_bridged: StartBridged, name: str
) -> None:
    """AS-08: with the room they are in, under the stable and the unstable name."""
    bridged = await start_bridged(FakeService(options={name: True}))
    bridge = bridged.bridge
    alice, room, (ghost,) = await in_a_room(bridged, "_irc_bob")
    said = await alice.send(room, "hello")
    await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 20_000})
    await bridge.hears(
        lambda b: (
            {"type": "m.typing", "room_id": room, "content": {"user_ids": [alice.user_id]}}
            in b.all("ephemeral")
        )
    )
    await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": False})
    await alice.post("/rooms/{}/receipt/{}/{}", room, "m.read", said)

    def receipt(b: FakeService) -> Any:
        return [each for each in b.all("ephemeral") if each["type"] == "m.receipt"]

    (heard,) = await bridge.hears(receipt)
    assert heard["room_id"] == room
    assert alice.user_id in heard["content"][said]["m.read"]
    status = {"presence": "online", "status_msg": "here"}
    await alice.put("/presence/{}/status", alice.user_id, json=status)
    presence = await bridge.hears(
        lambda b: [
            e for e in b.all("ephemeral") if e["type"] == "m.presence" and e["content"].get("status_msg")
        ]
    )
    assert presence[-1]["sender"] == alice.user_id
    assert presence[-1]["content"]["presence"] == "online"
    assert bridge.all("ephemeral") == bridge.all("de.sorunome.msc2409.ephemeral")
    assert ghost


async def test_private_receipts_are_those_of_own_users(start_bridged: StartBridged) -> None:
    """AS-08."""
    bridged = await start_bridged(FakeService(options={"receive_ephemeral": True}))
    server, bridge = bridged.server, bridged.bridge
    alice, room, (ghost,) = await in_a_room(bridged, "_irc_bob")
    said = await alice.send(room, "hello")
    await alice.post("/rooms/{}/receipt/{}/{}", room, "m.read.private", said)
    await server.client.post("/rooms/{}/receipt/{}/{}", room, "m.read.private", said, **bridge.as_user(ghost))
    await bridge.hears(lambda b: ghost in json.dumps(b.all("ephemeral")))
    assert alice.user_id not in json.dumps([e for e in bridge.all("ephemeral") if e["type"] == "m.receipt"])


async def test_who_wants_nothing_of_it_is_told_nothing(bridged: Bridged) -> None:
    """AS-08."""
    alice, room, _ = await in_a_room(bridged, "_irc_bob")
    await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True, "timeout": 20_000})
    await bridged.bridge.hears_event(await alice.send(room, "after"))
    assert all(set(body) == {"events"} for _, body in bridged.bridge.transactions)


async def device_of(server: Server, bridge: FakeService, ghost: str) -> tuple[User, DeviceCrypto]:
    """A device that the service makes for a ghost, which never logs in, with its keys. MSC4190."""
    await server.client.put("/devices/{}", "BRIDGE", json={}, expect=201, **bridge.as_user(ghost))
    user = User(server.client, ghost, bridge.as_token, "BRIDGE")
    return user, DeviceCrypto(user, "BRIDGE")


async def test_an_encrypted_bridge_hears_all_it_needs(start_bridged: StartBridged) -> None:
    """AS-10, AS-13, MSC3202: messages to devices that do not sync, counts of their keys, device lists."""
    bridged = await start_bridged(FakeService(options=ENCRYPTED))
    server, bridge = bridged.server, bridged.bridge
    alice, _, (ghost,) = await in_a_room(bridged, "_irc_bob")
    _, crypto = await device_of(server, bridge, ghost)
    as_device = bridge.as_user(ghost, device_id="BRIDGE")
    body = {
        "device_keys": crypto.device_keys(),
        "one_time_keys": crypto.one_time_keys(2),
        "fallback_keys": crypto.fallback_key(),
    }
    counted = await server.client.post("/keys/upload", json=body, **as_device)
    assert counted["one_time_key_counts"][ONE_TIME] == 2
    await bridge.hears(lambda b: any(ghost in lists(t).get("changed", []) for _, t in b.transactions))
    claim = {"one_time_keys": {ghost: {"BRIDGE": ONE_TIME}}}
    await alice.post("/keys/claim", json=claim)
    counts = await bridge.hears(
        lambda b: [
            t["org.matrix.msc3202.device_one_time_keys_count"][ghost]["BRIDGE"]
            for _, t in b.transactions
            if ghost in t.get("org.matrix.msc3202.device_one_time_keys_count", {})
            and t["org.matrix.msc3202.device_one_time_keys_count"][ghost]["BRIDGE"][ONE_TIME] == 1
        ]
    )
    assert counts
    last = bridge.transactions[-1][1]
    assert last["org.matrix.msc3202.device_unused_fallback_key_types"][ghost]["BRIDGE"] == [ONE_TIME]
    assert last["org.matrix.msc3202.device_one_time_key_counts"][ghost]["BRIDGE"] == {ONE_TIME: 1}
    messages = {"messages": {ghost: {"BRIDGE": {"secret": "words"}}}}
    await alice.put("/sendToDevice/{}/{}", "m.room.encrypted", "1", json=messages)
    (heard,) = await bridge.hears(lambda b: b.all("to_device"))
    assert heard == {
        "type": "m.room.encrypted",
        "sender": alice.user_id,
        "content": {"secret": "words"},
        "to_user_id": ghost,
        "to_device_id": "BRIDGE",
    }
    assert bridge.all("de.sorunome.msc2409.to_device") == [heard]
    await DeviceCrypto(alice).upload(1)
    await bridge.hears(lambda b: any(alice.user_id in lists(t).get("changed", []) for _, t in b.transactions))
    await server.client.delete("/devices/{}", "BRIDGE", json={}, **bridge.as_user(ghost))


def lists(transaction: dict[str, Any]) -> dict[str, Any]:
    return dict(transaction.get("org.matrix.msc3202.device_lists", {}))


async def told_with(bridge: FakeService, user_id: str, membership: str, room: str) -> dict[str, Any]:
    """What the transaction with a membership says of device lists."""

    def found(b: FakeService) -> list[dict[str, Any]]:
        return [
            transaction
            for _, transaction in b.transactions
            for event in transaction["events"]
            if (event["type"], event.get("state_key"), event["room_id"]) == ("m.room.member", user_id, room)
            and event["content"]["membership"] == membership
        ]

    return lists((await bridge.hears(found))[-1])


async def test_who_shares_no_encrypted_room_any_more_has_left(start_bridged: StartBridged) -> None:
    """MSC3202, E2E-11, E2E-12: `left` once nothing is shared, whoever went; `changed` for who comes; plain rooms do not count."""
    bridged = await start_bridged(FakeService(options=ENCRYPTED))
    server, bridge = bridged.server, bridged.bridge
    alice, plain, (ghost,) = await in_a_room(bridged, "_irc_bob")
    bob, carol = await server.register("bob"), await server.register("carol")
    rooms = [await alice.create_room(preset="public_chat") for _ in range(2)]
    for room in rooms:
        await alice.put_state(room, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"})
        await bob.join(room)
        await server.client.post("/join/{}", room, **bridge.as_user(ghost))
    assert set((await told_with(bridge, ghost, "join", rooms[0]))["changed"]) >= {alice.user_id, bob.user_id}
    for room in (plain, rooms[0]):
        await carol.join(room)
    assert carol.user_id in (await told_with(bridge, carol.user_id, "join", rooms[0]))["changed"]
    await carol.leave(plain)
    assert carol.user_id not in (await told_with(bridge, carol.user_id, "leave", plain)).get("left", [])
    await bob.leave(rooms[0])
    assert bob.user_id not in (await told_with(bridge, bob.user_id, "leave", rooms[0])).get("left", [])
    await carol.leave(rooms[0])
    assert (await told_with(bridge, carol.user_id, "leave", rooms[0]))["left"] == [carol.user_id]
    # The service's user goes: who is there is shared with no more, but for whom it meets elsewhere.
    await server.client.post("/rooms/{}/leave", rooms[1], **bridge.as_user(ghost))
    gone = await told_with(bridge, ghost, "leave", rooms[1])
    assert gone["left"] == [bob.user_id], "alice is in the other room"
    await alice.post("/rooms/{}/kick", rooms[0], json={"user_id": ghost})
    assert (await told_with(bridge, ghost, "leave", rooms[0]))["left"] == [alice.user_id]


async def test_messages_to_devices_wait_while_the_bridge_is_away(start_bridged: StartBridged) -> None:
    """MSC4203: each once, in order; what was taken waits no longer."""
    bridged = await start_bridged(FakeService(options=ENCRYPTED))
    server, bridge = bridged.server, bridged.bridge
    alice, _, (ghost,) = await in_a_room(bridged, "_irc_bob")
    await device_of(server, bridge, ghost)
    await bridge.stop()
    for number in range(5):
        messages = {"messages": {ghost: {"*": {"number": number}}}}
        await alice.put("/sendToDevice/{}/{}", "m.room.encrypted", f"{number}", json=messages)
    await bridge.start()
    await bridge.hears(lambda b: len(b.all("to_device")) == 5)
    assert [each["content"]["number"] for each in bridge.all("to_device")] == [0, 1, 2, 3, 4]
    synced = await server.client.get("/sync", **bridge.as_user(ghost, device_id="BRIDGE"))
    assert synced.get("to_device", {}).get("events", []) == []


async def test_a_bridge_that_syncs_finds_its_messages_there(start_bridged: StartBridged) -> None:
    """Without MSC3202 the service's devices sync: what they are sent stays until they have it."""
    bridged = await start_bridged(FakeService(options={"receive_ephemeral": True}))
    server, bridge = bridged.server, bridged.bridge
    alice, _, (ghost,) = await in_a_room(bridged, "_irc_bob")
    login = {
        "type": "m.login.application_service",
        "identifier": {"type": "m.id.user", "user": ghost},
        "device_id": "SYNCS",
    }
    session = await server.client.post("/login", json=login, token=bridge.as_token)
    messages = {"messages": {ghost: {"SYNCS": {"secret": "words"}}}}
    await alice.put("/sendToDevice/{}/{}", "m.room.encrypted", "1", json=messages)
    await bridge.hears(lambda b: b.all("to_device"))
    bob = server.user(session)
    assert [e["content"] for e in (await bob.sync())["to_device"]["events"]] == [{"secret": "words"}]


async def test_people_a_service_merely_watches_are_not_read(start_bridged: StartBridged) -> None:
    """What is for the devices of people is theirs, whatever namespaces say."""
    everybody = {"users": [{"regex": "@.*", "exclusive": False}]}
    bridged = await start_bridged(FakeService(namespaces=everybody, options=ENCRYPTED))
    server, bridge = bridged.server, bridged.bridge
    alice, bob = await server.register("alice"), await server.register("bob")
    messages = {"messages": {bob.user_id: {bob.device_id: {"secret": "words"}}}}
    await alice.put("/sendToDevice/{}/{}", "m.room.encrypted", "1", json=messages)
    room = await alice.create_room()
    await bridge.hears_event(await alice.send(room, "after"))
    assert bridge.all("to_device") == []
    assert (await bob.sync())["to_device"]["events"][0]["content"] == {"secret": "words"}


async def test_cross_signing_keys_need_no_proof(start_bridged: StartBridged) -> None:
    """AS-13: neither the first ones nor those that replace them; what a device does needs one to be named (AS-10)."""
    bridged = await start_bridged(FakeService(options=ENCRYPTED))
    server, bridge = bridged.server, bridged.bridge
    ghost = await bridge.register(server.client, "_irc_bob")
    _, crypto = await device_of(server, bridge, ghost)
    unnamed = {"device_keys": crypto.device_keys()}
    refused = await server.client.exchange(
        "POST", "/keys/upload", json=unnamed, expect=None, **bridge.as_user(ghost)
    )
    assert 400 <= refused.status < 500
    for _ in range(2):
        body = Identity(User(server.client, ghost, bridge.as_token, "BRIDGE")).body()
        await server.client.post("/keys/device_signing/upload", json=body, **bridge.as_user(ghost))
