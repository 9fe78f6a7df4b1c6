"""Keys over two processes of one server: CHECKLIST E2E-03, E2E-05, SYNC-20."""

import asyncio

from tests.support.crypto import ONE_TIME, DeviceCrypto, Identity, claim, query
from tests.support.server import Server


async def test_two_hundred_claims_at_once_give_each_of_fifty_keys_once_then_the_fallback(
    two_servers_processes: Server,
) -> None:
    """E2E-03."""
    server = two_servers_processes
    alice, bob = await server.register("alice"), await server.register("bob")
    sent = await DeviceCrypto(alice).upload(50, fallback=True)
    given = await asyncio.gather(*(claim(bob, alice) for _ in range(200)))
    [fallback] = sent["fallback_keys"].items()
    once = [found for found in given if found is not None and found != fallback]
    assert given.count(fallback) == 150
    assert sorted(once) == sorted(sent["one_time_keys"].items())
    for _ in range(10):  # whichever process answers
        reply = await alice.sync()
        assert reply["device_one_time_keys_count"].get(ONE_TIME, 0) == 0
        assert reply["device_unused_fallback_key_types"] == []


async def test_claims_of_the_same_devices_in_any_order_do_not_wait_for_each_other(
    two_servers_processes: Server,
) -> None:
    """E2E-03: fallback keys of several devices, asked for in opposite orders."""
    server = two_servers_processes
    alice = await server.register("alice")
    devices = [alice, *[await alice.new_device() for _ in range(5)]]
    for device in devices:
        await DeviceCrypto(device).upload(2, fallback=True)
    ids = [device.device_id for device in devices]

    async def ask(order: list[str]) -> int:
        body = {"one_time_keys": {alice.user_id: dict.fromkeys(order, ONE_TIME)}}
        answer = await alice.post("/keys/claim", json=body)
        return len(answer["one_time_keys"][alice.user_id])

    counts = await asyncio.gather(*(ask(ids if n % 2 else ids[::-1]) for n in range(60)))
    assert counts == [len(ids)] * 60


async def test_whichever_process_is_asked_knows_the_newest_keys(two_servers_processes: Server) -> None:
    """E2E-05: what a process has shown before is forgotten when it changes, whoever changed it."""
    server = two_servers_processes
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    for n in range(15):
        keys = crypto.device_keys(**{"org.example.n": n})
        await alice.post("/keys/upload", json={"device_keys": keys})
        found = await asyncio.gather(*(query(bob, alice) for _ in range(4)))
        for answer in found:
            assert answer["device_keys"][alice.user_id] == {alice.device_id: keys}
    mine, theirs = Identity(alice), Identity(bob)
    await mine.upload()
    await theirs.upload()
    for _ in range(4):
        assert (await query(alice, bob))["master_keys"][bob.user_id] == theirs.key("master")
    signed = mine.user_signing.sign(alice.user_id, theirs.key("master"))
    body = {bob.user_id: {theirs.master.public: signed}}
    assert (await alice.post("/keys/signatures/upload", json=body))["failures"] == {}
    for _ in range(4):
        assert (await query(alice, bob))["master_keys"][bob.user_id] == signed
        assert (await query(bob, bob))["master_keys"][bob.user_id] == theirs.key("master")
