"""The keys of one user are more than memory keeps: what is read of them does not grow with them where some are named."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from homeserver.e2ee import query as queries
from homeserver.e2ee import store
from homeserver.e2ee.types import DeviceRow
from homeserver.storage.tx import Later, Pipeline
from tests.conftest import StartServer
from tests.support.crypto import DeviceCrypto, Identity, query

DEVICES = 8


async def test_of_a_user_with_too_many_keys_to_keep_the_named_ones_alone_are_read(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2E-05, E2E-06: with the same signatures and names, and they take nobody's place in memory."""
    server = await start_server()
    assert server.app is not None
    alice, bob = await server.register("alice"), await server.register("bob")
    sessions = [alice, *[await alice.login(initial_device_display_name="One") for _ in range(DEVICES - 1)]]
    devices = [DeviceCrypto(session) for session in sessions]
    for device in devices:
        await device.upload()
    identity, last = Identity(alice), devices[-1]
    await identity.upload()
    signed = {
        last.device_id: identity.self_signing.sign(alice.user_id, last.device_keys()),
        identity.master.public: last.signer.sign(alice.user_id, identity.key("master")),
    }
    answer = await alice.post("/keys/signatures/upload", json={alice.user_id: signed})
    assert answer["failures"] == {}
    await DeviceCrypto(bob).upload()
    few = await query(bob, alice, devices=[last.device_id, "NONE"])
    assert set(few["device_keys"][alice.user_id]) == {last.device_id}

    read: list[Later[list[DeviceRow]]] = []
    read_all = store.find_devices

    def counted(batch: Pipeline, user_nids: Sequence[int]) -> Any:
        read.append(found := read_all(batch, user_nids))
        return found

    monkeypatch.setattr(store, "find_devices", counted)
    monkeypatch.setattr(queries, "BYTES_OF_ONE", 3_000)
    server.app.features.e2ee.queries.reset()
    everything = await query(bob, alice, bob)
    assert len(everything["device_keys"][alice.user_id]) == DEVICES
    assert sum(len(rows.result) for rows in read) == DEVICES + 1
    read.clear()
    assert await query(bob, alice, devices=[last.device_id, "NONE", last.device_id]) == few
    assert (await query(bob, bob))["device_keys"].keys() == {bob.user_id}
    assert not read, "what was not named was read, or who has few keys is not in memory"
    both = await asyncio.gather(query(bob, alice), query(bob, alice, devices=[devices[0].device_id]))
    assert both[0]["device_keys"][alice.user_id] == everything["device_keys"][alice.user_id]
    assert set(both[1]["device_keys"][alice.user_id]) == {devices[0].device_id}

    # Enough have gone: they are kept again.
    for session in sessions[2:]:
        await session.post("/logout")
    read.clear()
    for _ in range(2):
        assert len((await query(bob, alice))["device_keys"][alice.user_id]) == 2
    assert len(read) == 1
