"""Requests of other servers at the door: whom they are of is checked, and whatever is wrong with that is 401, never our fault."""

import asyncio
import json
import time
from typing import Any

import pytest

from federation.ports import Ask, Unreachable
from federation.x_matrix import Signer
from homeserver.matrix import base64
from homeserver.matrix.ids import ServerName
from homeserver.matrix.signing import SigningKey
from tests.support.federation import Federation
from tests.support.remote_server import RemoteServer
from tests.support.server import Server

KEYS = "/_matrix/key/v2/server"
SEND = "/_matrix/federation/v1/send/T"
BODY = b'{"edus":[],"origin":"x","origin_server_ts":1,"pdus":[]}'


def signed(remote: RemoteServer, here: Server, key: SigningKey | None = None) -> str:
    """The header of a request that is as it should be."""
    return Signer(remote.name, key or remote.key).authorization("PUT", SEND, ServerName(here.name), BODY)


async def code(here: Server, remote: RemoteServer, headers: Any, body: bytes = BODY) -> int:
    """The status of the answer; whatever was sent, it is no fault of ours."""
    if isinstance(headers, str):
        headers = {"Authorization": headers}
    status, answer = await remote.ask(here, "PUT", SEND, headers=headers, body=body)
    assert status < 500
    assert status != 401 or answer["errcode"] == "M_UNAUTHORIZED"
    return status


async def test_who_is_recognised(federation: Federation) -> None:
    """FED-01 to FED-04: the request of a server is answered; all others are 401."""
    here, remote, other = await federation.start(), await federation.remote(), await federation.remote("b_2")
    good = signed(remote, here)
    assert await code(here, remote, good) == 200
    signature = good.rpartition('sig="')[2]
    for wrong in (
        "",
        "X-Matrix",
        "Bearer abc",
        good[:-10],
        good.replace(signature, 'AAAA"'),
        good.replace(signature, '"'),
        good.replace(signature, "é" + signature),
        good.replace(remote.key.key_id, "ed25519:none"),
        good.replace(remote.key.key_id, "curve25519:a_1"),
        good.replace(f'origin="{remote.name}"', f'origin="{other.name}"'),
        good.replace(f'origin="{remote.name}"', f'origin="{here.name}"'),
        good.replace(f'origin="{remote.name}"', 'origin="127.0.0.1:1"'),
        remote.authorization(other.name, "PUT", SEND, BODY),
        remote.authorization(here.name, "POST", SEND, BODY),
        remote.authorization(here.name, "PUT", SEND + "?a=b", BODY),
        remote.authorization(here.name, "PUT", SEND, b"{}"),
        remote.authorization(here.name, "PUT", SEND, None),
        signed(remote, here, SigningKey(b"\x66" * 32, "a_1")),
        good + f',origin="{remote.name}"',
    ):
        assert await code(here, remote, wrong) == 401, wrong
    assert await code(here, remote, {}) == 401


async def test_a_destination_may_be_left_out_but_not_be_another(federation: Federation) -> None:
    """FED-03"""
    here, remote = await federation.start(), await federation.remote()
    good = signed(remote, here)
    destination = f',destination="{here.name}"'
    assert destination in good
    assert await code(here, remote, good.replace(destination, "")) == 200
    assert await code(here, remote, good.replace(here.name, "two.example")) == 401
    assert await code(here, remote, good.replace(destination, ',destination=""')) == 401


async def test_several_signatures(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    good = signed(remote, here)
    new = signed(remote, here, SigningKey(b"\x66" * 32, "new"))
    two = [("Authorization", new), ("Authorization", good)]
    assert await code(here, remote, two) == 200  # a key that is not known yet is passed over
    wrong = good[:-20] + "A" * 19 + '"'
    assert await code(here, remote, [("Authorization", good), ("Authorization", wrong)]) == 401
    assert await code(here, remote, [("Authorization", good)] * 6) == 401


async def test_the_body_is_signed_as_the_json_it_is(federation: Federation) -> None:
    """FED-01: whoever writes the JSON in another way has signed the same; every other content is refused."""
    here, remote = await federation.start(), await federation.remote()
    content = {**json.loads(BODY), "é": ["\u2028", 1, {"b": 1, "a": 2}]}
    canonical = BODY[:-1] + ',"é":["\u2028",1,{"a":2,"b":1}]}'.encode()
    header = remote.authorization(here.name, "PUT", SEND, canonical)
    assert await code(here, remote, header, canonical) == 200
    for written in (json.dumps(content), json.dumps(content, indent=2, ensure_ascii=False)):
        assert await code(here, remote, header, written.encode()) == 200
    for wrong in (
        b"",
        b"{}",
        b"[]",
        canonical + b"}",
        canonical[:-1],
        canonical.replace(b"1", b"1.0"),
        b"\xff" + canonical,
        b"[" * 100_000,
        b"{" + b'"a":1,' * 200_000 + b'"a":1}',
    ):
        assert await code(here, remote, header, wrong) == 401, wrong[:50]


async def test_old_keys_do_not_sign_requests(federation: Federation) -> None:
    """FED-07"""
    here, remote = await federation.start(), await federation.remote()
    old, later = remote.key, int(time.time() * 1000) + 3_600_000
    remote.key = SigningKey(b"\x66" * 32, "new")
    remote.old_keys = {old.key_id: {"key": base64.encode(old.public_key), "expired_ts": later}}
    assert await code(here, remote, signed(remote, here)) == 200
    header = signed(remote, here, old)
    assert await code(here, remote, header) == 401


async def test_a_server_that_does_not_renew_its_keys_is_asked_for_them(federation: Federation) -> None:
    """FED-05: what it told is good until `valid_until_ts`."""
    here, remote = await federation.start(), await federation.remote()
    remote.valid_for_ms = -1000
    header = signed(remote, here)
    assert await code(here, remote, header) == 401
    assert await code(here, remote, header) == 401
    assert len(remote.requests("GET", KEYS)) == 1  # once in a minute


async def test_strangers_keys_cost_one_request(federation: Federation) -> None:
    here, remote, victim = await federation.start(), await federation.remote(), await federation.remote()
    lie = signed(victim, here, SigningKey(b"\x66" * 32, "x"))

    async def again(number: int) -> int:
        return await code(here, remote, lie.replace("ed25519:x", f"ed25519:x{number}"))

    assert set(await asyncio.gather(*(again(n) for n in range(30)))) == {401}
    assert len(victim.requests("GET", KEYS)) == 1


async def test_who_asks_is_alive(federation: Federation) -> None:
    """A request made by a server shortens its pause."""
    here, remote = await federation.start(), await federation.remote()
    feature = here.app.features.federation
    good = {"Authorization": signed(remote, here)}
    assert await code(here, remote, good) == 200
    remote.away = True
    with pytest.raises(Unreachable):
        await feature.client.ask(remote.name, Ask(method="GET", path=("x",)), dict)
    pause = feature.backoff.of(remote.name)
    feature.backoff._pauses[remote.name] = long = type(pause)(
        failures=9, since_ms=0, failed_ms=pause.failed_ms, until_ms=pause.until_ms + 10**9, problem="x"
    )
    assert await code(here, remote, good) == 200
    assert feature.backoff.of(remote.name).until_ms < long.until_ms
