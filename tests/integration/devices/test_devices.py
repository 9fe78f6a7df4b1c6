"""Devices: CHECKLIST DEV-01, DEV-03, and who hears of their ending."""

from collections.abc import Sequence
from typing import Any

import pytest

from homeserver.devices.types import DeviceChange
from homeserver.log.entries import Entry, StructSink, Written
from homeserver.storage.tx import Pipeline
from tests.support.identity import IdentityServer
from tests.support.server import PASSWORD
from tests.support.user import User


def proof(user: User, session: str | None = None) -> dict[str, Any]:
    auth = {"type": "m.login.password", "user": user.user_id, "password": PASSWORD}
    return {**auth, "session": session} if session else auth


async def ids(user: User) -> set[str]:
    return {device["device_id"] for device in (await user.get("/devices"))["devices"]}


async def test_everybody_sees_their_own_devices_only(server: IdentityServer) -> None:
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await alice.login(initial_device_display_name="Phone")
    assert await ids(alice) == {alice.device_id, phone.device_id}
    assert (await alice.get("/devices/{}", phone.device_id))["display_name"] == "Phone"
    await alice.get("/devices/{}", bob.device_id, expect=(404, "M_NOT_FOUND"))
    await bob.put("/devices/{}", phone.device_id, json={"display_name": "x"}, expect=(404, "M_NOT_FOUND"))
    await bob.delete("/devices/{}", phone.device_id, json={"auth": proof(bob)})
    assert await ids(alice) == {alice.device_id, phone.device_id}


async def test_a_device_without_a_name_shows_none(server: IdentityServer) -> None:
    alice = await server.register("alice")
    assert "display_name" not in await alice.get("/devices/{}", alice.device_id)


async def test_a_device_can_be_renamed(server: IdentityServer) -> None:
    alice = await server.register("alice")
    path = ("/devices/{}", alice.device_id)
    await alice.put(*path, json={"display_name": "Kitchen"})
    await alice.put(*path, json={})
    assert (await alice.get(*path))["display_name"] == "Kitchen"
    await alice.put(*path, json={"display_name": "n" * 3000})
    assert (await alice.get(*path))["display_name"] == "n" * 256
    await alice.put(*path, json={"display_name": 5}, expect=(400, "M_BAD_JSON"))
    await alice.put("/devices/{}", "NOSUCH", json={"display_name": "x"}, expect=(404, "M_NOT_FOUND"))


async def test_deleting_a_device_asks_who_is_there(server: IdentityServer) -> None:
    """DEV-01."""
    alice = await server.register("alice")
    phone = await alice.login(refresh_token=True)
    answer = await alice.exchange("DELETE", "/devices/{}", phone.device_id, expect=401)
    auth = proof(alice, answer.json["session"])
    await phone.get("/account/whoami")
    await alice.delete("/devices/{}", phone.device_id, json={"auth": auth})
    await phone.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))
    await server.client.post(
        "/refresh", json={"refresh_token": phone.refresh_token}, expect=(401, "M_UNKNOWN_TOKEN")
    )
    assert await ids(alice) == {alice.device_id}


async def test_what_is_gone_already_counts_as_deleted(server: IdentityServer) -> None:
    """DEV-01."""
    alice = await server.register("alice")
    phone = await alice.login()
    for _ in range(2):
        await alice.delete("/devices/{}", phone.device_id, json={"auth": proof(alice)})
        body = {"devices": [phone.device_id, "NOSUCH"], "auth": proof(alice)}
        await alice.post("/delete_devices", json=body)


async def test_several_devices_end_at_once(server: IdentityServer) -> None:
    """DEV-01."""
    alice = await server.register("alice")
    others = [await alice.new_device() for _ in range(3)]
    doomed = [other.device_id for other in others[:2]]
    question = await alice.post("/delete_devices", json={"devices": doomed}, expect=401)
    body = {"devices": doomed, "auth": proof(alice, question["session"])}
    await alice.post("/delete_devices", json=body)
    assert await ids(alice) == {alice.device_id, others[2].device_id}
    await others[2].get("/account/whoami")
    await others[0].get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))


@pytest.mark.parametrize(
    ("body", "errcode"),
    [({}, "M_MISSING_PARAM"), ({"devices": "X"}, "M_BAD_JSON"), ({"devices": [5]}, "M_BAD_JSON")],
)
async def test_a_malformed_deletion_is_refused_before_anything_is_asked(
    server: IdentityServer, body: Any, errcode: str
) -> None:
    """API-03."""
    alice = await server.register("alice")
    await alice.post("/delete_devices", json=body, expect=(400, errcode))


async def test_a_device_may_delete_itself(server: IdentityServer) -> None:
    alice = await server.register("alice")
    await alice.delete("/devices/{}", alice.device_id, json={"auth": proof(alice)})
    await alice.get("/account/whoami", expect=(401, "M_UNKNOWN_TOKEN"))


async def test_a_device_whose_name_needs_encoding_can_be_named_in_a_path(server: IdentityServer) -> None:
    """API-17."""
    alice = await server.register("alice", device_id="a/b?c#d%2F+ü")
    assert alice.device_id == "a/b?c#d%2F+ü"
    assert (await alice.get("/devices/{}", alice.device_id))["device_id"] == alice.device_id
    await alice.delete("/devices/{}", alice.device_id, json={"auth": proof(alice)})


# ------------------------------------------------------------------------------------------------------------ listeners


class KeysGone(Entry, frozen=True):
    user_nid: int
    device_ids: list[str]


class KeysGoneSink(StructSink[KeysGone]):
    kind = "test_keys_gone"
    entry_type = KeysGone


class Listener:
    """Stands for the feature that keeps keys: it clears them in the transaction in which a device ends."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[str, ...], int]] = []

    def deletion_entries(self, change: DeviceChange) -> Sequence[Entry]:
        return [KeysGone(change.user_nid, list(change.device_ids))]

    def on_devices_deleted(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        positions = [position for position, entry in written if isinstance(entry, KeysGone)]
        self.heard.append(("deleted", tuple(change.device_ids), positions[0]))
        batch.execute(
            "UPDATE devices SET display_name = 'heard' WHERE user_nid = %(nid)s AND device_id <> ALL(%(ids)s::text[])",
            nid=change.user_nid,
            ids=list(change.device_ids),
        )

    def rename_entries(self, change: DeviceChange) -> Sequence[Entry]:
        return [KeysGone(change.user_nid, list(change.device_ids))]

    def on_devices_renamed(
        self, batch: Pipeline, change: DeviceChange, written: Sequence[Written[Any]]
    ) -> None:
        del batch
        self.heard.append(("renamed", tuple(change.device_ids), written[0].position))


async def test_whoever_keeps_something_per_device_hears_of_its_end_in_the_same_transaction(
    start: Any,
) -> None:
    """AUTH-30: keys go with the device, whichever way it ends."""
    server = await start(sinks=[KeysGoneSink()])
    listener = Listener()
    server.parts.devices.listen(listener)
    alice = await server.register("alice", device_id="STAYS")
    for name in ("ONE", "TWO", "THREE"):
        await alice.login(device_id=name)
    await alice.delete("/devices/ONE", json={"auth": proof(alice)})
    assert (await alice.get("/devices/STAYS"))["display_name"] == "heard"
    await (await alice.login(device_id="TWO")).logout()
    await alice.put("/devices/STAYS", json={"display_name": "Mine"})
    body = {"new_password": "another good one", "auth": proof(alice)}
    await alice.post("/account/password", json=body)
    await alice.post("/logout/all")
    told = [(kind, set(devices)) for kind, devices, _ in listener.heard]
    assert told == [
        ("deleted", {"ONE"}),
        ("deleted", {"TWO"}),
        ("renamed", {"STAYS"}),
        ("deleted", {"THREE"}),
        ("deleted", {"STAYS"}),
    ]
    positions = [position for *_, position in listener.heard]
    assert positions == sorted(set(positions))
    assert server.tail.position >= positions[-1]
