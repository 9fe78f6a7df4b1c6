"""Dehydrated devices (MSC3814): kept by the server, reached by others while their owner is away."""

import asyncio
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.crypto import DeviceCrypto, Identity, changed_in, claim, in_encrypted_room, query, some_key
from tests.support.server import Server
from tests.support.user import User

DEVICE = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
DATA = {"algorithm": "org.matrix.msc3814.v2", "device_pickle": "x", "nonce": "y", "number": 1.5}


def body(user: User, **more: Any) -> dict[str, Any]:
    crypto = DeviceCrypto(user, some_key())
    return {
        "device_id": crypto.device_id,
        "device_data": DATA,
        "initial_device_display_name": "Dehydrated device",
        "device_keys": crypto.device_keys(dehydrated=True),
        "one_time_keys": crypto.one_time_keys(2),
        "fallback_keys": crypto.fallback_key(),
        **more,
    }


async def send(sender: User, to: User, device_id: str, number: int, first: int = 0) -> None:
    for n in range(first, first + number):
        messages = {to.user_id: {device_id: {"n": n}}}
        path = "/sendToDevice/m.room.encrypted/{}"
        await sender.put(path, f"{device_id}{n}", json={"messages": messages})


async def read_all(user: User, device_id: str) -> list[int]:
    """As clients do: until a page is empty, or has no token."""
    found: list[int] = []
    token: dict[str, str] = {}
    while True:
        page = await user.post(DEVICE + "/{}/events", device_id, json=token)
        found += [event["content"]["n"] for event in page["events"]]
        assert ("next_batch" in page) == bool(page["events"])
        if not page["events"]:
            return found
        token = {"next_batch": page["next_batch"]}


async def test_a_device_is_put_and_read_again(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    await alice.get(DEVICE, expect=(404, "M_NOT_FOUND"))
    sent = body(alice)
    assert await alice.put(DEVICE, json=sent) == {"device_id": sent["device_id"]}
    assert await alice.get(DEVICE) == {"device_id": sent["device_id"], "device_data": DATA}
    await bob.get(DEVICE, expect=(404, "M_NOT_FOUND"))
    assert sent["device_id"] in [d["device_id"] for d in (await alice.get("/devices"))["devices"]]


async def test_others_find_its_keys_and_sharers_hear_of_it(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    await bob.sync()
    sent = body(alice)
    device_id = sent["device_id"]
    await alice.put(DEVICE, json=sent)
    assert alice.user_id in changed_in(await bob.sync())
    found = (await query(bob, alice))["device_keys"][alice.user_id][device_id]
    assert found.pop("unsigned") == {"device_display_name": "Dehydrated device"}
    assert found == sent["device_keys"]
    given = [await claim(bob, alice, device_id) for _ in range(3)]
    assert given == [*sent["one_time_keys"].items(), *sent["fallback_keys"].items()]


async def test_messages_collect_while_everybody_is_away_and_stay_until_the_device_ends(
    server: Server,
) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    sent = body(alice)
    device_id = sent["device_id"]
    await alice.put(DEVICE, json=sent)
    await alice.logout()
    await send(bob, alice, device_id, 105)
    back = await server.login(alice.user_id)
    assert await read_all(back, device_id) == list(range(105))
    assert await read_all(back, device_id) == list(range(105))
    assert await back.delete(DEVICE) == {"device_id": device_id}
    await back.get(DEVICE, expect=(404, "M_NOT_FOUND"))
    await back.delete(DEVICE, expect=(404, "M_NOT_FOUND"))
    await back.post(DEVICE + "/{}/events", device_id, expect=(404, "M_NOT_FOUND"))
    assert (await query(bob, alice))["device_keys"] == {alice.user_id: {}}


async def test_a_new_device_replaces_the_former_with_all_it_had(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    old, new = body(alice), body(alice)
    await alice.put(DEVICE, json=old)
    await send(bob, alice, old["device_id"], 1)
    await alice.put(DEVICE, json=new)
    assert (await alice.get(DEVICE))["device_id"] == new["device_id"]
    assert await read_all(alice, new["device_id"]) == []
    path = DEVICE + "/{}/events"
    await alice.post(path, old["device_id"], expect=(403, "M_FORBIDDEN"))
    assert set((await query(bob, alice))["device_keys"][alice.user_id]) == {new["device_id"]}
    assert await claim(bob, alice, old["device_id"]) is None


async def test_the_same_device_again_is_a_retry(server: Server) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    sent = body(alice)
    await alice.put(DEVICE, json=sent)
    await send(bob, alice, sent["device_id"], 1)
    await alice.put(DEVICE, json=sent)
    assert await read_all(alice, sent["device_id"]) == [0]


async def test_its_name_is_neither_another_devices_nor_a_cross_signing_keys(server: Server) -> None:
    """E2E-10."""
    alice = await server.register("alice")
    keys = Identity(alice)
    await keys.upload()
    kept = body(alice)
    for _ in range(2):
        for name in (alice.device_id, keys.master.public):
            crypto = DeviceCrypto(alice, name)
            other = body(alice, device_id=name, device_keys=crypto.device_keys())
            await alice.put(DEVICE, json=other, expect=(403, "M_FORBIDDEN"))
        await alice.put(DEVICE, json=kept)
    await alice.get("/account/whoami")
    assert (await alice.get(DEVICE))["device_id"] == kept["device_id"]


async def test_of_devices_put_at_once_one_is_kept_and_none_is_left_over(
    two_servers_processes: Server,
) -> None:
    """Several of the user's devices may dehydrate at the same moment, at different processes."""
    server = two_servers_processes
    alice, bob = await server.register("alice"), await server.register("bob")
    await alice.put(DEVICE, json=body(alice))
    bodies = [body(alice) for _ in range(4)]
    await asyncio.gather(*(alice.put(DEVICE, json=sent) for sent in bodies * 8))
    kept = (await alice.get(DEVICE))["device_id"]
    assert kept in {sent["device_id"] for sent in bodies}
    devices = {device["device_id"] for device in (await alice.get("/devices"))["devices"]}
    assert devices == {alice.device_id, kept}
    assert set((await query(bob, alice))["device_keys"][alice.user_id]) == {kept}
    [fallback] = next(sent for sent in bodies if sent["device_id"] == kept)["fallback_keys"].items()
    assert [await claim(bob, alice, kept) for _ in range(3)][-1] == fallback


async def test_of_too_many_devices_the_one_unused_longest_ends_but_never_the_dehydrated_one(
    start_server: StartServer,
) -> None:
    """E2E-13: its keys and messages go with it; the others stay logged in."""
    server = await start_server(limits={"devices_per_user": 3})
    alice, bob = await server.register("alice"), await server.register("bob")
    kept = body(alice)
    await alice.put(DEVICE, json=kept)
    second = await alice.new_device()
    await DeviceCrypto(alice).upload(1)
    await second.get("/account/whoami")
    third = await alice.new_device()
    assert server.app is not None
    await server.app.features.accounts.last_seen.flush()
    fourth = await alice.new_device()
    await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    ids = {device["device_id"] for device in (await fourth.get("/devices"))["devices"]}
    assert ids == {kept["device_id"], second.device_id, third.device_id, fourth.device_id}
    assert set((await query(bob, alice))["device_keys"][alice.user_id]) == {kept["device_id"]}
    assert (await fourth.get(DEVICE))["device_id"] == kept["device_id"]


async def test_nobody_logs_in_as_the_dehydrated_device(server: Server) -> None:
    """It would be a device that somebody holds; the one the server keeps would be gone."""
    alice = await server.register("alice")
    sent = body(alice)
    await alice.put(DEVICE, json=sent)
    refused = (403, "M_FORBIDDEN")
    await server.login(alice.user_id, device_id=sent["device_id"], expect=refused)
    assert (await alice.get(DEVICE))["device_id"] == sent["device_id"]
    await alice.delete(DEVICE)
    assert (await server.login(alice.user_id, device_id=sent["device_id"])).device_id == sent["device_id"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"device_id": ""}, 400),
        ({"device_id": "a\0b"}, 400),
        ({"device_id": "d" * 5000}, 400),
        ({"device_id": "OTHER"}, 400),
        ({"device_data": {}}, 400),
        ({"device_data": "x"}, 400),
        ({"device_data": {"algorithm": "x", "device_pickle": "x" * 300_000}}, 413),
        ({"device_keys": {}}, 400),
        ({"one_time_keys": {"x": "y"}}, 400),
        ({"fallback_keys": {"a:\0": {"key": "y"}}}, 400),
    ],
)
async def test_malformed_devices_are_refused_and_the_former_stays(
    server: Server, change: dict[str, Any], status: int
) -> None:
    alice = await server.register("alice")
    kept = body(alice)
    await alice.put(DEVICE, json=kept)
    await alice.put(DEVICE, json=body(alice, **change), expect=status)
    assert (await alice.get(DEVICE))["device_id"] == kept["device_id"]
    assert set((await query(alice, alice))["device_keys"][alice.user_id]) == {kept["device_id"]}
    for token in ("x", "d", "d-1", "d1\0", "s1"):
        path = (DEVICE + "/{}/events", kept["device_id"])
        await alice.post(*path, json={"next_batch": token}, expect=(400, "M_INVALID_PARAM"))


async def test_messages_are_read_by_either_spelling(server: Server) -> None:
    """matrix-js-sdk 43 asks with GET and `from`, the proposal with POST and `next_batch`."""
    alice, bob = await server.register("alice"), await server.register("bob")
    kept = body(alice)
    device_id = kept["device_id"]
    await alice.put(DEVICE, json=kept)
    message = {"messages": {alice.user_id: {device_id: {"n": 1}}}}
    await bob.put("/sendToDevice/{}/{}", "org.example", "1", json=message)
    path = DEVICE + "/{}/events"
    asked, posted = await alice.get(path, device_id), await alice.post(path, device_id)
    assert asked == posted
    assert [event["content"] for event in asked["events"]] == [{"n": 1}]
    assert (await alice.get(path, device_id, params={"from": asked["next_batch"]})) == {"events": []}


async def test_clients_can_see_that_it_is_served(server: Server) -> None:
    versions = await server.client.get("/_matrix/client/versions")
    assert versions["unstable_features"]["org.matrix.msc3814"] is True
