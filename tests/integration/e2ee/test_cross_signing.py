"""Cross-signing keys and signatures: CHECKLIST E2E-06 to E2E-10."""

import asyncio
from typing import Any

import pytest

from homeserver.e2ee.api import KeysApi, SigningBody
from homeserver.matrix.errors import Forbidden
from homeserver.matrix.ids import DeviceId, UserId
from homeserver.web.auth import Requester
from tests.support.crypto import (
    DeviceCrypto,
    Identity,
    Signer,
    changed_in,
    in_encrypted_room,
    query,
    some_key,
)
from tests.support.server import PASSWORD, Server
from tests.support.user import User

SIGNING = "/keys/device_signing/upload"
SIGNATURES = "/keys/signatures/upload"


def proof(user: User, session: str | None = None) -> dict[str, Any]:
    auth = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": user.user_id}}
    return {**auth, "password": PASSWORD, **({"session": session} if session else {})}


async def test_the_first_keys_need_no_proof_the_same_again_neither_others_do(server: Server) -> None:
    """E2E-07."""
    alice = await server.register("alice")
    first = Identity(alice)
    await first.upload()
    await alice.post(SIGNING, json=first.body())
    other = Identity(alice)
    question = await alice.post(SIGNING, json=other.body(), expect=401)
    assert (await query(alice, alice))["master_keys"] == {alice.user_id: first.key("master")}
    await alice.post(SIGNING, json={**other.body(), "auth": proof(alice, question["session"])})
    assert (await query(alice, alice))["master_keys"] == {alice.user_id: other.key("master")}


async def test_of_first_keys_uploaded_at_once_one_is_first_and_the_others_need_proof(
    two_servers_processes: Server,
) -> None:
    """E2E-07, E2E-08: and what is stored belongs together."""
    alice = await two_servers_processes.register("alice")
    sets = [Identity(alice) for _ in range(6)]
    answers = await asyncio.gather(
        *(alice.exchange("POST", SIGNING, json=keys.body(), expect=None) for keys in sets)
    )
    assert sorted(answer.status for answer in answers) == [200, *[401] * 5]
    [first] = [keys for keys, answer in zip(sets, answers, strict=True) if answer.status == 200]
    found = await query(alice, alice)
    for usage in ("master", "self_signing", "user_signing"):
        assert found[f"{usage}_keys"] == {alice.user_id: first.key(usage)}


async def test_an_administrator_lets_a_user_replace_their_keys_without_proof(fresh_server: Server) -> None:
    """E2E-07: once, for ten minutes, and nobody else."""
    server = fresh_server
    alice, admin = await server.register("alice"), await server.register("admin")
    path = ("/_synapse/admin/v1/users/{}/_allow_cross_signing_replacement_without_uia", alice.user_id)
    await admin.post(*path, expect=(403, "M_FORBIDDEN"))
    assert server.app is not None
    core, accounts = server.app.core, server.app.features.accounts
    await accounts.accounts.set_flags(await core.interning.user_nid(UserId(admin.user_id)), is_admin=True)
    await admin.post(*path, expect=(404, "M_NOT_FOUND"))  # no keys: none need to be replaced
    first, second, third = Identity(alice), Identity(alice), Identity(alice)
    await first.upload()
    until_ms = (await admin.post(*path))["updatable_without_uia_before_ms"]
    assert 0 < until_ms - core.clock.now_ms() <= 10 * 60 * 1000
    await alice.post(SIGNING, json=second.body())
    await alice.post(SIGNING, json=third.body(), expect=401)
    assert (await query(alice, alice))["master_keys"] == {alice.user_id: second.key("master")}
    nobody = f"@nobody:{admin.server_name}"
    await admin.post(path[0], nobody, expect=(404, "M_NOT_FOUND"))


async def test_an_application_service_needs_no_proof(fresh_server: Server) -> None:
    """E2E-07 (1.17)."""
    alice = await fresh_server.register("alice")
    await Identity(alice).upload()
    other = Identity(alice)
    assert fresh_server.app is not None
    core, features = fresh_server.app.core, fresh_server.app.features
    api = next(api for api in features.e2ee.manifest.apis if isinstance(api, KeysApi))
    nid = await core.interning.user_nid(UserId(alice.user_id))
    bridge = Requester(user_id=UserId(alice.user_id), user_nid=nid, appservice_id="bridge")
    no_request: Any = None  # it is looked at for a proof alone
    await api.upload_signing_keys(bridge, SigningBody(**other.body()), no_request)
    assert (await query(alice, alice))["master_keys"] == {alice.user_id: other.key("master")}


async def test_everybody_sees_master_and_self_signing_keys_and_oneself_all(server: Server) -> None:
    """E2E-05."""
    alice, bob = await server.register("alice"), await server.register("bob")
    keys = Identity(alice)
    await keys.upload()
    own, others = await query(alice, alice), await query(bob, alice)
    for found in (own, others):
        assert found["master_keys"] == {alice.user_id: keys.key("master")}
        assert found["self_signing_keys"] == {alice.user_id: keys.key("self_signing")}
    assert own["user_signing_keys"] == {alice.user_id: keys.key("user_signing")}
    assert others.get("user_signing_keys", {}) == {}


async def test_keys_must_be_signed_by_the_master_key(server: Server) -> None:
    """E2E-08: by the one given, or the one stored."""
    alice = await server.register("alice")
    keys, other = Identity(alice), Identity(alice)
    body = {"self_signing_key": keys.key("self_signing")}
    await alice.post(SIGNING, json=body, expect=(400, "M_MISSING_PARAM"))
    wrong = {"master_key": keys.key("master"), "user_signing_key": other.key("user_signing")}
    await alice.post(SIGNING, json=wrong, expect=(400, "M_INVALID_SIGNATURE"))
    unsigned = {**keys.key("self_signing"), "signatures": {}}
    await alice.post(
        SIGNING, json={"master_key": keys.key("master"), "self_signing_key": unsigned}, expect=400
    )
    assert (await query(alice, alice)).get("master_keys", {}) == {}
    await alice.post(SIGNING, json={"master_key": keys.key("master")})
    question = await alice.post(SIGNING, json=body, expect=401)
    await alice.post(SIGNING, json={**body, "auth": proof(alice, question["session"])})
    assert (await query(alice, alice))["self_signing_keys"] == {alice.user_id: keys.key("self_signing")}


async def test_a_key_is_not_called_like_a_device_nor_a_device_like_a_key(server: Server) -> None:
    """E2E-08, E2E-10."""
    alice = await server.register("alice")
    keys = Identity(alice)
    device = await alice.new_device(keys.master.public)
    await DeviceCrypto(device).upload()
    await alice.post(SIGNING, json=keys.body(), expect=(403, "M_FORBIDDEN"))
    other = Identity(alice)
    await other.upload()
    login = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": alice.user_id},
        "password": PASSWORD,
        "device_id": other.self_signing.public,
    }
    await server.client.post("/login", json=login, expect=(403, "M_FORBIDDEN"))


async def test_no_device_is_made_under_the_name_of_a_key(fresh_server: Server) -> None:
    """E2E-10, DEV-02: nor by an application service, which makes devices without logging them in."""
    alice = await fresh_server.register("alice")
    keys = Identity(alice)
    await keys.upload()
    assert fresh_server.app is not None
    core, accounts = fresh_server.app.core, fresh_server.app.features.accounts
    nid = await core.interning.user_nid(UserId(alice.user_id))
    with pytest.raises(Forbidden):
        await accounts.devices.create(nid, DeviceId(keys.master.public), None)
    assert await accounts.devices.create(nid, DeviceId("BRIDGE"), None)


async def test_a_device_without_keys_keeps_its_name_from_being_a_key_too(server: Server) -> None:
    """E2E-08, E2E-10: the device may upload its keys later."""
    alice = await server.register("alice")
    keys = Identity(alice)
    await alice.new_device(keys.user_signing.public)
    await alice.post(SIGNING, json=keys.body(), expect=(403, "M_FORBIDDEN"))


def _bad(field: str, value: Any) -> Any:
    def change(key: dict[str, Any]) -> dict[str, Any]:
        return {**key, field: value}

    return change


@pytest.mark.parametrize(
    "change",
    [
        _bad("user_id", "@somebody:else"),
        _bad("user_id", None),
        _bad("usage", ["self_signing"]),
        _bad("usage", "master"),
        _bad("keys", {}),
        _bad("keys", {"ed25519:a": "b"}),
        _bad("keys", {"ed25519:a\0b": "a\0b"}),
        _bad("keys", {"ed25519:AAAA": "AAAA"}),
        _bad("keys", {f"ed25519:{'A' * 43}": "A" * 43, f"ed25519:{'B' * 42}A": "B" * 42 + "A"}),
        _bad("signatures", []),
        _bad("signatures", {"@somebody:else": {"ed25519:X": "c2ln"}}),
    ],
)
async def test_malformed_keys_are_refused(server: Server, change: Any) -> None:
    """E2E-08: nothing is stored."""
    alice = await server.register("alice")
    body = {"master_key": change(Identity(alice).key("master"))}
    await alice.post(SIGNING, json=body, expect=400)
    assert (await query(alice, alice)).get("master_keys", {}) == {}


async def test_a_huge_key_is_refused(server: Server) -> None:
    """E2E-08."""
    alice = await server.register("alice")
    key = {**Identity(alice).key("master"), "org.example": "x" * 20_000}
    await alice.post(SIGNING, json={"master_key": key}, expect=(413, "M_TOO_LARGE"))


async def test_a_user_signs_their_devices_and_everybody_sees_it(server: Server) -> None:
    """E2E-06, E2E-09."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await in_encrypted_room(alice, bob)
    keys, device = Identity(alice), DeviceCrypto(alice)
    sent = (await device.upload())["device_keys"]
    await keys.upload()
    await bob.sync()
    signed = keys.self_signing.sign(alice.user_id, sent)
    answer = await alice.post(SIGNATURES, json={alice.user_id: {alice.device_id: signed}})
    assert answer["failures"] == {}
    assert alice.user_id in changed_in(await bob.sync())
    for reader in (alice, bob):
        assert (await query(reader, alice))["device_keys"][alice.user_id][alice.device_id] == signed
    again = await alice.post(SIGNATURES, json={alice.user_id: {alice.device_id: signed}})
    assert again["failures"] == {}


async def test_the_master_key_is_signed_by_devices(server: Server) -> None:
    """E2E-06: everybody sees the owner's devices' signatures."""
    alice, bob = await server.register("alice"), await server.register("bob")
    keys, device = Identity(alice), DeviceCrypto(alice)
    await device.upload()
    await keys.upload()
    signed = device.signer.sign(alice.user_id, keys.key("master"))
    answer = await alice.post(SIGNATURES, json={alice.user_id: {keys.master.public: signed}})
    assert answer["failures"] == {}
    assert (await query(bob, alice))["master_keys"][alice.user_id] == signed


async def test_a_signature_of_somebody_else_is_seen_by_the_signer_alone(server: Server) -> None:
    """E2E-06, E2E-09."""
    alice, bob, carol = [await server.register(name) for name in ("alice", "bob", "carol")]
    await in_encrypted_room(alice, bob, carol)
    mine, theirs = Identity(alice), Identity(bob)
    await mine.upload()
    await theirs.upload()
    for user in (alice, bob, carol):
        await user.sync()
    signed = mine.user_signing.sign(alice.user_id, theirs.key("master"))
    answer = await alice.post(SIGNATURES, json={bob.user_id: {theirs.master.public: signed}})
    assert answer["failures"] == {}
    assert (await query(alice, bob))["master_keys"][bob.user_id] == signed
    for reader in (bob, carol):
        assert (await query(reader, bob))["master_keys"][bob.user_id] == theirs.key("master")
    assert bob.user_id in changed_in(await alice.sync())
    assert not changed_in(await carol.sync())
    assert not changed_in(await bob.sync())


async def test_each_wrong_signature_is_told_and_the_right_ones_are_kept(server: Server) -> None:
    """E2E-09."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await alice.new_device()
    keys, theirs = Identity(alice), Identity(bob)
    laptop_keys = (await DeviceCrypto(alice).upload())["device_keys"]
    phone_keys = (await DeviceCrypto(phone).upload())["device_keys"]
    bobs = (await DeviceCrypto(bob).upload())["device_keys"]
    await keys.upload()
    await theirs.upload()
    good = keys.self_signing.sign(alice.user_id, laptop_keys)
    false = {**phone_keys, "signatures": {alice.user_id: {keys.self_signing.key_id: "A" * 86}}}
    by_stranger = Signer().sign(alice.user_id, theirs.key("self_signing"))
    body = {
        alice.user_id: {alice.device_id: good, phone.device_id: false, "NONE": phone_keys},
        bob.user_id: {
            theirs.self_signing.public: by_stranger,
            bob.device_id: keys.user_signing.sign(alice.user_id, bobs),
        },
        "@nobody:nowhere.invalid": {"X": phone_keys},
        "no user": {"ab": {}},
    }
    failures = (await alice.post(SIGNATURES, json=body))["failures"]
    assert set(failures[alice.user_id]) == {phone.device_id, "NONE"}
    assert failures[alice.user_id][phone.device_id]["errcode"] == "M_INVALID_SIGNATURE"
    assert failures[alice.user_id]["NONE"]["errcode"] == "M_NOT_FOUND"
    assert set(failures[bob.user_id]) == {theirs.self_signing.public, bob.device_id}
    assert set(failures) == set(body)
    found = await query(alice, alice, bob)
    assert found["device_keys"][alice.user_id] == {alice.device_id: good, phone.device_id: phone_keys}
    assert found["device_keys"][bob.user_id][bob.device_id] == bobs


async def test_another_object_under_a_right_signature_is_refused(server: Server) -> None:
    """E2E-09: what is signed must be what is stored."""
    alice = await server.register("alice")
    keys, device = Identity(alice), DeviceCrypto(alice)
    sent = (await device.upload())["device_keys"]
    await keys.upload()
    changed = {**sent, "keys": {**sent["keys"], f"curve25519:{alice.device_id}": some_key()}, "more": 1.5}
    body = {alice.user_id: {alice.device_id: keys.self_signing.sign(alice.user_id, changed)}}
    failures = (await alice.post(SIGNATURES, json=body))["failures"]
    assert failures[alice.user_id][alice.device_id]["errcode"] == "M_INVALID_SIGNATURE"


async def test_signatures_of_a_device_end_with_it(server: Server) -> None:
    """E2E-13: a device that is made again under the id is not signed."""
    alice = await server.register("alice")
    phone = await alice.new_device("PHONE")
    keys, device = Identity(alice), DeviceCrypto(phone)
    sent = (await device.upload())["device_keys"]
    await keys.upload()
    master = device.signer.sign(alice.user_id, keys.key("master"))
    signed = keys.self_signing.sign(alice.user_id, sent)
    body = {alice.user_id: {"PHONE": signed, keys.master.public: master}}
    assert (await alice.post(SIGNATURES, json=body))["failures"] == {}
    await phone.logout()
    again = await alice.new_device("PHONE")
    sent = (await DeviceCrypto(again).upload())["device_keys"]
    found = await query(alice, alice)
    assert found["device_keys"][alice.user_id]["PHONE"] == sent
    assert found["master_keys"][alice.user_id] == keys.key("master")


async def test_a_proof_for_keys_is_for_the_keys_it_came_with(server: Server) -> None:
    """AUTH-05, E2E-08: more keys may be added with the proof; keys that were named are not exchanged."""
    alice = await server.register("alice")
    await Identity(alice).upload()
    mine, others = Identity(alice), Identity(alice)
    session = (await alice.post(SIGNING, json={"master_key": mine.key("master")}, expect=401))["session"]
    auth = proof(alice, session)
    await alice.post(SIGNING, json={**others.body(), "auth": auth}, expect=(403, "M_FORBIDDEN"))
    await alice.post(SIGNING, json={**mine.body(), "auth": auth})
    assert (await query(alice, alice))["master_keys"] == {alice.user_id: mine.key("master")}
