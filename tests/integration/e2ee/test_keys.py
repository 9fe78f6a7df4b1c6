"""Device keys, one-time keys, fallback keys through the API: CHECKLIST E2E-01 to E2E-05, SYNC-20, SYNC-21."""

import asyncio
from typing import Any

import pytest

from tests.support.crypto import ONE_TIME, DeviceCrypto, Identity, claim, query, some_key
from tests.support.server import Server


async def test_keys_are_uploaded_by_the_device_they_belong_to(server: Server) -> None:
    """E2E-01."""
    alice, bob = await server.register("alice"), await server.register("bob")
    keys = DeviceCrypto(alice).device_keys()
    for wrong in ({"user_id": bob.user_id}, {"device_id": "OTHER"}):
        body = {"device_keys": {**keys, **wrong}, "one_time_keys": DeviceCrypto(alice).one_time_keys(1)}
        await alice.post("/keys/upload", json=body, expect=(400, "M_INVALID_PARAM"))
    assert (await query(bob, alice))["device_keys"] == {alice.user_id: {}}
    assert await claim(bob, alice) is None


async def test_an_upload_tells_the_counts_of_each_algorithm(server: Server) -> None:
    """E2E-01."""
    alice = await server.register("alice")
    crypto = DeviceCrypto(alice)
    await crypto.upload(3)
    body = {"one_time_keys": {**crypto.one_time_keys(2), "curve25519:A": some_key()}}
    counts = await alice.post("/keys/upload", json=body)
    assert counts["one_time_key_counts"] == {ONE_TIME: 5, "curve25519": 1}
    assert (await alice.post("/keys/upload", json={}))["one_time_key_counts"] == {
        ONE_TIME: 5,
        "curve25519": 1,
    }


async def test_the_same_key_again_is_accepted_and_another_under_its_name_refused(server: Server) -> None:
    """E2E-02."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    sent = (await crypto.upload(2))["one_time_keys"]
    again = await alice.post("/keys/upload", json={"one_time_keys": sent})
    assert again["one_time_key_counts"] == {ONE_TIME: 2}
    name = next(iter(sent))
    changed = {**crypto.one_time_keys(1), name: crypto.signed_key()}
    await alice.post("/keys/upload", json={"one_time_keys": changed}, expect=(400, "M_INVALID_PARAM"))
    assert await claim(bob, alice) == (name, sent[name])
    await claim(bob, alice)
    assert await claim(bob, alice) is None


async def test_one_time_keys_are_given_out_once_in_the_order_of_upload_then_the_fallback_key(
    server: Server,
) -> None:
    """E2E-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    first = (await crypto.upload(3, fallback=True)) or {}
    second = await crypto.upload(2, keys=False)
    expected = [*first["one_time_keys"].items(), *second["one_time_keys"].items()]
    assert [await claim(bob, alice) for _ in expected] == expected
    [fallback] = first["fallback_keys"].items()
    assert [await claim(bob, alice) for _ in range(3)] == [fallback] * 3
    assert (await alice.sync())["device_unused_fallback_key_types"] == []


async def test_a_key_that_was_given_out_is_not_given_out_again_when_its_upload_is_repeated(
    server: Server,
) -> None:
    """E2E-03: the answer to an upload was lost, and the client sends it once more after a claim."""
    alice, bob = await server.register("alice"), await server.register("bob")
    sent = await DeviceCrypto(alice).upload(2)
    first, second = sent["one_time_keys"].items()
    assert await claim(bob, alice) == first
    counts = await alice.post("/keys/upload", json=sent)
    assert counts["one_time_key_counts"] == {ONE_TIME: 1}
    assert await claim(bob, alice) == second
    assert await claim(bob, alice) is None


async def test_a_name_used_before_can_name_another_key_once_the_former_is_gone(server: Server) -> None:
    """E2E-02, E2E-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    name = next(iter((await crypto.upload(1))["one_time_keys"]))
    await claim(bob, alice)
    fresh = {name: crypto.signed_key()}
    answer = await alice.post("/keys/upload", json={"one_time_keys": fresh})
    assert answer["one_time_key_counts"] == {ONE_TIME: 1}
    assert await claim(bob, alice) == (name, fresh[name])
    assert await claim(bob, alice) is None


async def test_a_device_that_comes_back_with_other_identity_keys_begins_anew(server: Server) -> None:
    """E2E-02, E2E-03, E2E-06: what the lost keys have signed is of no use to anybody, and in the way of the new."""
    alice, bob = await server.register("alice"), await server.register("bob")
    lost, identity = DeviceCrypto(alice), Identity(alice)
    sent = await lost.upload(3, fallback=True)
    await identity.upload()
    signed = {
        alice.device_id: identity.self_signing.sign(alice.user_id, sent["device_keys"]),
        identity.master.public: lost.signer.sign(alice.user_id, identity.key("master")),
    }
    answer = await alice.post("/keys/signatures/upload", json={alice.user_id: signed})
    assert answer["failures"] == {}
    found = DeviceCrypto(alice)
    [name, *_] = sent["one_time_keys"]
    body = {"device_keys": found.device_keys(), "one_time_keys": {name: found.signed_key()}}
    answer = await alice.post("/keys/upload", json=body)
    assert answer["one_time_key_counts"] == {ONE_TIME: 1}
    reply = await alice.sync()
    assert reply["device_one_time_keys_count"] == {ONE_TIME: 1}
    assert reply["device_unused_fallback_key_types"] == []
    assert await claim(bob, alice) == (name, body["one_time_keys"][name])
    assert await claim(bob, alice) is None
    shown = await query(bob, alice)
    assert shown["device_keys"][alice.user_id] == {alice.device_id: body["device_keys"]}
    assert shown["master_keys"][alice.user_id] == identity.key("master")


async def test_another_description_of_a_device_is_not_signed_and_keeps_its_keys(server: Server) -> None:
    """E2E-06: a signature of what was said before would be wrong."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto, identity = DeviceCrypto(alice), Identity(alice)
    sent = await crypto.upload(2)
    await identity.upload()
    signed = identity.self_signing.sign(alice.user_id, sent["device_keys"])
    body = {alice.user_id: {alice.device_id: signed}}
    assert (await alice.post("/keys/signatures/upload", json=body))["failures"] == {}
    await alice.post("/keys/upload", json={"device_keys": sent["device_keys"]})  # the same again: a retry
    assert (await query(bob, alice))["device_keys"][alice.user_id] == {alice.device_id: signed}
    bare = {key: value for key, value in sent["device_keys"].items() if key != "signatures"}
    other = crypto.signer.sign(alice.user_id, {**bare, "algorithms": ["m.megolm.v1.aes-sha2"]})
    answer = await alice.post("/keys/upload", json={"device_keys": other})
    assert answer["one_time_key_counts"] == {ONE_TIME: 2}
    assert (await query(bob, alice))["device_keys"][alice.user_id] == {alice.device_id: other}


async def test_one_claim_reaches_many_devices(server: Server) -> None:
    """E2E-03: several users and devices; what has no keys is left out."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await alice.new_device()
    await DeviceCrypto(alice).upload(1)
    await DeviceCrypto(phone).upload(1)
    wanted = {
        alice.user_id: {alice.device_id: ONE_TIME, phone.device_id: ONE_TIME, "NONE": ONE_TIME},
        bob.user_id: {bob.device_id: ONE_TIME},
        f"@nobody:{bob.server_name}": {"X": ONE_TIME},
    }
    answer = await bob.post("/keys/claim", json={"one_time_keys": wanted})
    assert set(answer["one_time_keys"]) == {alice.user_id}
    assert set(answer["one_time_keys"][alice.user_id]) == {alice.device_id, phone.device_id}


async def test_an_algorithm_nobody_uploaded_gives_nothing(server: Server) -> None:
    """E2E-03."""
    alice, bob = await server.register("alice"), await server.register("bob")
    await DeviceCrypto(alice).upload(1, fallback=True)
    assert await claim(bob, alice, algorithm="org.example.unknown") is None


async def test_a_new_fallback_key_replaces_the_old_one_and_is_unused(server: Server) -> None:
    """E2E-04, SYNC-21."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    old = (await crypto.upload(0, fallback=True))["fallback_keys"]
    assert (await alice.sync())["device_unused_fallback_key_types"] == [ONE_TIME]
    await claim(bob, alice)
    assert (await alice.sync())["device_unused_fallback_key_types"] == []
    await alice.post("/keys/upload", json={"fallback_keys": old})
    assert (await alice.sync())["device_unused_fallback_key_types"] == []
    new = crypto.fallback_key()
    await alice.post("/keys/upload", json={"fallback_keys": new})
    assert (await alice.sync())["device_unused_fallback_key_types"] == [ONE_TIME]
    assert [await claim(bob, alice)] == list(new.items())
    two = {**crypto.fallback_key(), **crypto.fallback_key()}
    await alice.post("/keys/upload", json={"fallback_keys": two}, expect=(400, "M_INVALID_PARAM"))


async def test_counts_and_unused_fallback_types_are_in_every_sync(server: Server) -> None:
    """SYNC-20, SYNC-21: and they follow uploads and claims."""
    alice, bob = await server.register("alice"), await server.register("bob")
    empty = await alice.sync()
    assert empty["device_one_time_keys_count"].get(ONE_TIME, 0) == 0
    assert empty["device_unused_fallback_key_types"] == []
    await DeviceCrypto(alice).upload(5)
    assert (await alice.sync())["device_one_time_keys_count"] == {ONE_TIME: 5}
    await claim(bob, alice)
    assert (await alice.sync())["device_one_time_keys_count"] == {ONE_TIME: 4}
    phone = await alice.new_device()
    assert (await phone.sync())["device_one_time_keys_count"].get(ONE_TIME, 0) == 0


async def test_queries_show_devices_with_their_names_and_only_those_asked_for(server: Server) -> None:
    """E2E-05."""
    alice, bob = await server.register("alice"), await server.register("bob")
    phone = await alice.new_device(initial_device_display_name="Phone")
    laptop_keys = (await DeviceCrypto(alice).upload())["device_keys"]
    phone_keys = (await DeviceCrypto(phone).upload())["device_keys"]
    found = await query(bob, alice, bob)
    named = {**phone_keys, "unsigned": {"device_display_name": "Phone"}}
    assert found["device_keys"] == {
        alice.user_id: {alice.device_id: laptop_keys, phone.device_id: named},
        bob.user_id: {},
    }
    assert found["failures"] == {}
    only = await query(bob, alice, devices=[phone.device_id, "NONE"])
    assert only["device_keys"] == {alice.user_id: {phone.device_id: named}}
    nobody = f"@nobody:{bob.server_name}"
    answer = await bob.post("/keys/query", json={"device_keys": {nobody: []}})
    assert answer["failures"] == {}


async def test_keys_that_change_while_they_are_asked_for_are_never_old_afterwards(server: Server) -> None:
    """E2E-05: what is kept in memory is forgotten by every change, also by one that comes while it is read."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    for n in range(20):
        keys = crypto.device_keys(**{"org.example.n": n})
        upload = alice.post("/keys/upload", json={"device_keys": keys})
        await asyncio.gather(upload, *(query(bob, alice) for _ in range(3)))
        assert (await query(bob, alice))["device_keys"][alice.user_id] == {alice.device_id: keys}
        name = f"Phone {n}"
        await alice.put("/devices/{}", alice.device_id, json={"display_name": name})
        shown = (await query(bob, alice))["device_keys"][alice.user_id][alice.device_id]
        assert shown["unsigned"] == {"device_display_name": name}
        await alice.put("/devices/{}", alice.device_id, json={"display_name": ""})


async def test_what_else_is_in_device_keys_is_kept_and_signatures_stay_right(server: Server) -> None:
    """E2E-05: unknown fields are part of what the device has signed; `unsigned` is the server's."""
    alice = await server.register("alice")
    crypto = DeviceCrypto(alice)
    keys = crypto.device_keys(**{"org.example.x": {"a": [1, None, "é"]}, "dehydrated": False})
    await alice.post(
        "/keys/upload", json={"device_keys": {**keys, "unsigned": {"device_display_name": "no"}}}
    )
    assert (await query(alice, alice))["device_keys"][alice.user_id][alice.device_id] == keys


async def test_a_server_that_cannot_be_reached_is_a_failure(server: Server) -> None:
    """E2E-05."""
    alice = await server.register("alice")
    answer = await alice.post("/keys/query", json={"device_keys": {"@bob:elsewhere.invalid": []}})
    assert list(answer["failures"]) == ["elsewhere.invalid"]


async def test_many_claims_at_once_give_each_key_once_and_then_the_fallback(server: Server) -> None:
    """E2E-03: in one process; over two in test_processes."""
    alice, bob = await server.register("alice"), await server.register("bob")
    sent = await DeviceCrypto(alice).upload(20, fallback=True)
    given = await asyncio.gather(*(claim(bob, alice) for _ in range(60)))
    [fallback] = sent["fallback_keys"].items()
    once = [found for found in given if found != fallback]
    assert sorted(name for name, _ in filter(None, once)) == sorted(sent["one_time_keys"])
    assert given.count(fallback) == 40


async def test_a_claim_that_is_cut_off_has_claimed_nothing(
    fresh_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E2E-03, SYNC-20: keys are taken and counted in one act, so that no process counts keys that are gone."""
    server = fresh_server
    alice, bob = await server.register("alice"), await server.register("bob")
    sent = await DeviceCrypto(alice).upload(2, fallback=True)
    assert server.app is not None

    async def dies(*_: object, **__: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(server.app.core.log, "append", dies)
        await bob.post(
            "/keys/claim", json={"one_time_keys": {alice.user_id: {alice.device_id: ONE_TIME}}}, expect=500
        )
    assert [await claim(bob, alice) for _ in range(2)] == list(sent["one_time_keys"].items())


BAD_UPLOADS: list[tuple[dict[str, Any], int]] = [
    ({"one_time_keys": {"noalgorithm": "x"}}, 400),
    ({"one_time_keys": {":x": "x"}}, 400),
    ({"one_time_keys": {f"{ONE_TIME}:": {"key": "x"}}}, 400),
    ({"one_time_keys": {f"{ONE_TIME}:a\0b": {"key": "x"}}}, 400),
    ({"one_time_keys": {f"{ONE_TIME}:a": 5}}, 400),
    ({"one_time_keys": {f"{ONE_TIME}:a": {"key": 5}}}, 400),
    ({"one_time_keys": {f"{ONE_TIME}:a": {}}}, 400),
    ({"one_time_keys": {f"{ONE_TIME}:a": {"key": "x" * 20_000}}}, 413),
    ({"one_time_keys": {f"{ONE_TIME}:{n}": {"key": "x"} for n in range(1001)}}, 400),
    ({"one_time_keys": [1]}, 400),
    ({"fallback_keys": {f"{ONE_TIME}:\0": {"key": "x"}}}, 400),
    ({"fallback_keys": {"x" * 300 + ":a": {"key": "x"}}}, 400),
    ({"device_keys": "x"}, 400),
    ({"device_keys": {}}, 400),
]


@pytest.mark.parametrize(("body", "status"), BAD_UPLOADS)
async def test_malformed_uploads_are_refused_whole(server: Server, body: dict[str, Any], status: int) -> None:
    """E2E-01: nothing of them is stored."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    good = {"device_keys": crypto.device_keys(), "fallback_keys": crypto.fallback_key()}
    await alice.post("/keys/upload", json={**good, **body}, expect=status)
    assert (await query(bob, alice))["device_keys"][alice.user_id] == {}
    assert await claim(bob, alice) is None


@pytest.mark.parametrize(
    "change",
    [
        {"algorithms": "x"},
        {"algorithms": [1]},
        {"keys": None},
        {"keys": {"ed25519:X": 5}},
        {"signatures": []},
        {"signatures": {"@a:b": "x"}},
        {"signatures": {"@foreign:example.org": {"ed25519:X": "c2ln"}}},
        {"more": "x" * 70_000},
    ],
)
async def test_malformed_device_keys_are_refused(server: Server, change: dict[str, Any]) -> None:
    """E2E-01, E2E-06: nobody uploads signatures of somebody else with their keys."""
    alice = await server.register("alice")
    keys = {**DeviceCrypto(alice).device_keys(), **change}
    expect = 413 if "more" in change else 400
    await alice.post("/keys/upload", json={"device_keys": keys}, expect=expect)
    assert (await query(alice, alice))["device_keys"][alice.user_id] == {}


@pytest.mark.parametrize(
    "value", [2**53, -(2**63), 2**64 - 1, 2**80, 1.5, 1e300, -0.0, "é\0\U0001f511", [[[]]] * 3]
)
async def test_whatever_else_stands_in_a_key_comes_back_as_it_was(server: Server, value: Any) -> None:
    """E2E-05: or it is refused; it never is a fault of the server, and nobody is given something else."""
    alice, bob = await server.register("alice"), await server.register("bob")
    crypto = DeviceCrypto(alice)
    name, key = f"{ONE_TIME}:X", {**crypto.signed_key(), "org.example": value}
    keys = {**crypto.device_keys(), "org.example": value}
    body = {"device_keys": keys, "one_time_keys": {name: key}}
    answer = await alice.exchange("POST", "/keys/upload", json=body, expect=None)
    if answer.status == 200:
        assert await claim(bob, alice) == (name, key)
        assert (await query(bob, alice))["device_keys"][alice.user_id] == {alice.device_id: keys}
    else:
        assert answer.status == 400
        assert await claim(bob, alice) is None


@pytest.mark.parametrize("path", ["/keys/claim", "/keys/query"])
async def test_strange_names_in_questions_are_no_fault_of_the_server(server: Server, path: str) -> None:
    """E2E-03, E2E-05: NUL cannot be a part of anything stored; a body that has it in a name is refused."""
    alice = await server.register("alice")
    field = "one_time_keys" if path == "/keys/claim" else "device_keys"
    for device, algorithm in (
        ("a\0b", ONE_TIME),
        (alice.device_id, "x\0y"),
        ("", ""),
        ("d" * 5000, "a" * 5000),
    ):
        wanted: Any = {device: algorithm} if path == "/keys/claim" else [device]
        has_null = "\0" in device or (path == "/keys/claim" and "\0" in algorithm)
        expected = (400, "M_INVALID_PARAM") if has_null else 200
        await alice.post(path, json={field: {alice.user_id: wanted}}, expect=expected)
    for user in ("alice", "@a\0b:x.y", "@" + "a" * 300 + ":x.y"):
        wanted = {} if path == "/keys/claim" else []
        await alice.post(path, json={field: {user: wanted}}, expect=(400, "M_INVALID_PARAM"))


async def test_a_device_keeps_a_bounded_number_of_keys(server: Server) -> None:
    """E2E-01: what a client uploads without end is refused in the end."""
    alice = await server.register("alice")
    crypto = DeviceCrypto(alice)
    for _ in range(5):
        await alice.post(
            "/keys/upload", json={"one_time_keys": {f"x:{some_key()}": "k" for _ in range(1000)}}
        )
    body = {"one_time_keys": crypto.one_time_keys(1)}
    await alice.post("/keys/upload", json=body, expect=(400, "M_INVALID_PARAM"))
