"""Keys of servers: ours published, those of others fetched, kept, refused; and what is checked with them."""

import asyncio
import time
from typing import Any

import pytest

from federation.ports import Ask, Checked, Dropped, NotPermitted
from federation.transport.backoff import Backoff
from federation.transport.shared_backoff import SharedBackoff
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.events.signatures import WantedKeys
from homeserver.matrix import base64, json
from homeserver.matrix.errors import Unauthorized
from homeserver.matrix.signing import SigningKey, sign_json, verify_json
from tests.support.federation import Federation
from tests.support.remote_server import RemoteServer, status

KEYS = "/_matrix/key/v2/server"
V11 = ROOM_VERSIONS["11"]
HOUR = 3_600_000


def now() -> int:
    return int(time.time() * 1000)


def wanted(remote: RemoteServer, least: int = 0) -> list[WantedKeys]:
    return [WantedKeys(remote.name, frozenset({remote.key.key_id}), least)]


async def test_our_keys_are_published_and_signed(federation: Federation) -> None:
    """FED-05"""
    old = {"ed25519:old": {"key": base64.encode(bytes(32)), "expired_ts": 1000}}
    here, remote = await federation.start(server={"old_signing_keys": old}), await federation.remote()
    code, told = await remote.ask(here, "GET", KEYS, headers={})
    assert code == 200
    assert list(told) == sorted(told), "as it was signed"
    assert told["server_name"] == here.name
    assert told["valid_until_ts"] > now() + HOUR
    assert told["old_verify_keys"] == old
    [(key_id, key)] = told["verify_keys"].items()
    verify_json(told, here.name, key_id, base64.decode(key["key"]))


async def test_keys_are_fetched_once_for_all_and_kept(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    feature = here.app.features.federation
    remote.answers("GET", KEYS, lambda _: slow(remote))
    found = await asyncio.gather(*(feature.ring.find(wanted(remote)) for _ in range(50)))
    assert all(keys[remote.name][0].public_key == remote.key.public_key for keys in found)
    assert len(remote.asked) == 1
    feature.ring._known.clear()
    assert (await feature.ring.find(wanted(remote)))[remote.name]
    assert len(remote.asked) == 1


async def test_who_asks_as_the_keys_come_is_told_them(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory and the database had none yet when it looked; by when it would ask the server, somebody else has just asked."""
    here, remote = await federation.start(), await federation.remote()
    feature = here.app.features.federation
    late: list[asyncio.Task[Any]] = []
    note = feature._fetcher._note

    def noted(*args: Any) -> None:
        note(*args)
        late.append(asyncio.create_task(feature.ring.find(wanted(remote))))

    async def none_there(_: Any) -> None:
        pass

    monkeypatch.setattr(feature._fetcher, "_note", noted)
    monkeypatch.setattr(feature.ring, "_load", none_there)
    assert (await feature.ring.find(wanted(remote)))[remote.name]
    assert (await late[0])[remote.name]
    assert len(remote.asked) == 1


async def slow(remote: RemoteServer) -> Any:
    await asyncio.sleep(0.2)
    return remote.key_response()


STRANGER = SigningKey(b"\x77" * 32, "stranger")


@pytest.mark.parametrize(
    "said",
    [
        lambda r: {**r.key_response(), "server_name": "two.example"},
        lambda r: {**r.key_response(), "valid_until_ts": now() + 10 * HOUR},
        lambda r: r.key_response(server_name="two.example"),
        lambda r: r.key_response(verify_keys={}),
        lambda r: r.key_response(verify_keys={STRANGER.key_id: {"key": base64.encode(STRANGER.public_key)}}),
        lambda r: r.key_response(verify_keys={r.key.key_id: {"key": base64.encode(STRANGER.public_key)}}),
        lambda r: r.key_response(verify_keys={r.key.key_id: {"key": "x"}}),
        lambda r: r.key_response(verify_keys={r.key.key_id: 5}),
        lambda r: r.key_response(valid_until_ts="tomorrow"),
        lambda r: r.key_response(valid_until_ts=-1),
        lambda r: {**r.key_response(), "signatures": {}},
        lambda r: {**r.key_response(), "signatures": 5},
        lambda r: sign_json(
            {k: v for k, v in r.key_response().items() if k != "signatures"}, r.name, STRANGER
        ),
        lambda r: r.key_response(
            old_verify_keys={
                f"ed25519:k{n}": {"key": base64.encode(bytes(32)), "expired_ts": 1} for n in range(10_000)
            }
        ),
        lambda r: r.key_response(x="x" * 500_000),
        lambda r: status(404, {"errcode": "M_NOT_FOUND", "error": ""}),
        lambda r: b"[]",
    ],
    ids=range(17),
)
async def test_what_says_nothing_of_keys(federation: Federation, said: Any) -> None:
    """FED-05, CRY-02: forged, of another server, 10 000 keys; and asked once."""
    here, remote = await federation.start(), await federation.remote()
    ring = here.app.features.federation.ring
    remote.answers("GET", KEYS, lambda _: said(remote))
    for _ in range(3):
        assert not (await ring.find(wanted(remote))).get(remote.name)
    assert len(remote.asked) == 1


def message(remote: RemoteServer, version: str = "11", **more: Any) -> Any:
    return remote.event(version, "m.room.message", {"msgtype": "m.text", "body": "x"}, **more)


async def test_events_of_a_dead_server_cost_one_attempt(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    remote.away = True
    feature = here.app.features.federation
    pdus = [message(remote, depth=n + 1).pdu for n in range(1000)]
    results = await feature.checker.check(pdus, V11)
    assert all(isinstance(each, Dropped) and each.event_id for each in results)
    await feature.checker.check(pdus[:10], V11)
    assert feature._fetcher.attempts == 1


async def test_events_are_checked_in_their_order(federation: Federation) -> None:
    """FED-10 steps 1 to 3, FED-11"""
    here, remote = await federation.start(), await federation.remote()
    checker = here.app.features.federation.checker
    good = message(remote)
    changed = {**good.fields, "content": {"msgtype": "m.text", "body": "another"}}
    forged = {**good.fields, "depth": 77}
    unsigned = {**good.fields, "signatures": {}}
    strange = message(remote, signing_key=STRANGER)
    other = message(remote, sender="@someone:two.example")
    pdus = [good.pdu, b"{", changed, forged, unsigned, strange.pdu, other.pdu, good.pdu]
    results = await checker.check(pdus, V11)
    kinds = [type(each).__name__ for each in results]
    assert kinds == ["Checked", "Dropped", "Checked", "Dropped", "Dropped", "Dropped", "Dropped", "Checked"]
    first, redacted = results[0], results[2]
    assert isinstance(first, Checked)
    assert isinstance(redacted, Checked)
    assert first.event.event_id == good.event_id
    assert redacted.event.content == {}
    assert len(remote.requests("GET", KEYS)) == 1


async def test_our_own_events_need_nobody(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    own = message(
        remote, sender=f"@a:{here.name}", server_name=here.name, signing_key=here.app.core.identity.key
    )
    [result] = await here.app.features.federation.checker.check([own.pdu], V11)
    assert isinstance(result, Checked)
    assert not remote.asked


async def test_a_key_that_had_expired_does_not_sign(federation: Federation) -> None:
    """FED-07, FED-11, EVT-06: of events, and of requests"""
    here, remote = await federation.start(), await federation.remote()
    feature = here.app.features.federation
    old, expired = remote.key, now() - 10 * HOUR
    remote.key = SigningKey(b"\x12" * 32, "new")
    remote.old_keys = {old.key_id: {"key": base64.encode(old.public_key), "expired_ts": expired}}
    before = message(remote, signing_key=old, origin_server_ts=expired - HOUR)
    after = message(remote, signing_key=old, origin_server_ts=expired + HOUR)
    late = message(remote, origin_server_ts=now() + 8 * 24 * HOUR)
    results = await feature.checker.check([before.pdu, after.pdu, late.pdu, message(remote).pdu], V11)
    assert [type(each).__name__ for each in results] == ["Checked", "Dropped", "Dropped", "Checked"]
    four = [message(remote, "4", signing_key=old, origin_server_ts=expired + HOUR).pdu]
    [result] = await feature.checker.check(four, ROOM_VERSIONS["4"])
    assert isinstance(result, Checked)  # before version 5 nobody asks
    signed = sign_json({"a": 1}, remote.name, old)
    await feature.checker.verify(signed, remote.name, at_ms=expired - 1)
    with pytest.raises(Unauthorized):
        await feature.checker.verify(signed, remote.name, at_ms=now())


async def test_json_of_others_is_verified(federation: Federation) -> None:
    """CRY-02"""
    here, remote = await federation.start(), await federation.remote()
    checker = here.app.features.federation.checker
    signed = remote.sign({"a": "b"})
    await checker.verify(signed, remote.name, at_ms=now())
    for wrong in (
        {**signed, "a": "c"},
        {"a": "b"},
        {**signed, "signatures": {remote.name: {}}},
        {**signed, "signatures": []},
    ):
        with pytest.raises(Unauthorized):
            await checker.verify(wrong, remote.name, at_ms=now())


async def test_a_notary_vouches_for_who_does_not_answer(federation: Federation) -> None:
    """FED-06, both sides: one Atrium asks another."""
    notary, remote = await federation.start(), await federation.remote()
    listed = {"server_name": notary.name}
    here = await federation.start(federation={"key_servers": [listed]})
    await notary.app.features.federation.ring.find(wanted(remote))
    remote.away = True
    found = await here.app.features.federation.ring.find(wanted(remote))
    assert found[remote.name][0].public_key == remote.key.public_key


async def test_a_notary_is_asked_by_anybody(federation: Federation) -> None:
    """FED-06"""
    here, remote, dead = await federation.start(), await federation.remote(), await federation.remote()
    dead.away = True
    code, told = await remote.ask(here, "GET", f"/_matrix/key/v2/query/{remote.name}", headers={})
    assert code == 200
    [answer] = told["server_keys"]
    own = here.app.core.identity.key
    verify_json(answer, remote.name, remote.key.key_id, remote.key.public_key)
    verify_json(answer, here.name, own.key_id, own.public_key)
    assert len(remote.requests("GET", KEYS)) == 1
    query = {"server_keys": {remote.name: {remote.key.key_id: {}}, dead.name: {}, here.name: {}}}
    code, told = await remote.ask(here, "POST", "/_matrix/key/v2/query", query, headers={})
    assert {each["server_name"] for each in told["server_keys"]} == {remote.name, here.name}
    assert len(remote.requests("GET", KEYS)) == 1  # what is known is told
    remote.away = True
    code, told = await remote.ask(
        here,
        "GET",
        f"/_matrix/key/v2/query/{remote.name}?minimum_valid_until_ts={now() + 100 * HOUR}",
        headers={},
    )
    assert [each["server_name"] for each in told["server_keys"]] == [remote.name]  # also of a dead server
    assert await remote.ask(here, "POST", "/_matrix/key/v2/query", {"server_keys": {}}, headers={}) == (
        200,
        {"server_keys": []},
    )
    too_many = {"server_keys": {f"s{n}.example": {} for n in range(101)}}
    code, _ = await remote.ask(here, "POST", "/_matrix/key/v2/query", too_many, headers={})
    assert code == 400
    code, _ = await remote.ask(here, "GET", "/_matrix/key/v2/query/not%20a%20name", headers={})
    assert code == 400


async def test_a_notary_that_is_wrong_is_not_believed(federation: Federation) -> None:
    here_key = base64.encode(STRANGER.public_key)
    notary, remote = await federation.remote(), await federation.remote()
    listed = {"server_name": notary.name, "verify_keys": {"ed25519:stranger": here_key}}
    here = await federation.start(federation={"key_servers": [listed]})
    remote.away = True
    notary.answers(
        "POST", "/_matrix/key/v2/query", lambda _: {"server_keys": [notary.sign(remote.key_response()), {}]}
    )
    assert not (await here.app.features.federation.ring.find(wanted(remote))).get(remote.name)
    assert len(notary.requests("POST", "/_matrix/key/v2/query")) == 1


async def test_pauses_are_shared_by_processes(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    feature = here.app.features.federation
    feature.backoff.failed(remote.name, "no answer")
    await feature._shared_backoff.exchange()
    core = here.app.core
    other = Backoff(core.clock, core.entropy, longest_ms=HOUR)
    shared = SharedBackoff(other, core.db, core.clock)
    await shared.exchange()
    assert other.of(remote.name) == feature.backoff.of(remote.name)
    other.succeeded(remote.name)
    await shared.exchange()
    await feature._shared_backoff.exchange()
    assert feature.backoff.of(remote.name) is None


async def test_federation_that_is_off_refuses(federation: Federation) -> None:
    here, remote = await federation.start(federation={"enabled": False}), await federation.remote()
    for uri in ("/_matrix/federation/v1/version", KEYS, "/_matrix/key/v2/query/x.example"):
        assert (await remote.ask(here, "GET", uri, headers={}))[0] == 404
    with pytest.raises(NotPermitted):
        await here.app.features.federation.client.ask(remote.name, Ask(method="GET", path=("x",)), dict)


async def test_who_is_denied_is_neither_asked_nor_answered(federation: Federation) -> None:
    remote = await federation.remote()
    here = await federation.start(federation={"deny": ["localh?st"]})
    with pytest.raises(NotPermitted):
        await here.app.features.federation.client.ask(remote.name, Ask(method="GET", path=("x",)), dict)
    assert json.dumps(remote.asked) == b"[]"
