"""The whole way: a client sends, and a scripted server gets signed transactions, whatever it answers."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web

from homeserver.matrix.ids import RoomId
from tests.support.federation import Federation
from tests.support.graph import Process
from tests.support.outbound import join, numbered, until
from tests.support.remote_server import Asked, RemoteServer, status
from tests.support.server import Server

SEND = "/_matrix/federation/v1/send/*"
TAKEN: dict[str, Any] = {"pdus": {}}


async def shared_room(here: Server, *remotes: RemoteServer) -> tuple[Any, str]:
    """Somebody here, and a room with a user of each of the remote servers."""
    alice = await here.register("alice")
    room = await alice.create_room(preset="public_chat")
    assert here.app is not None
    beneath = cast("Process", SimpleNamespace(core=here.app.core))
    await join(beneath, RoomId(room), *(remote.user("x") for remote in remotes))
    return alice, room


def texts(remote: RemoteServer) -> list[str]:
    """What was in transactions, once for each of them."""
    bodies = {asked.path: asked.json for asked in remote.requests("PUT", SEND)}
    return [pdu["content"].get("body", pdu["type"]) for body in bodies.values() for pdu in body["pdus"]]


def contents(remote: RemoteServer) -> dict[str, set[bytes]]:
    found: dict[str, set[bytes]] = {}
    for asked in remote.requests("PUT", SEND):
        found.setdefault(asked.path, set()).add(asked.body)
    return found


async def test_a_message_reaches_the_other_server_signed(federation: Federation) -> None:
    """FED-01, FED-08"""
    here, remote = await federation.start(), await federation.remote()
    remote.answers("PUT", SEND, TAKEN)
    alice, room = await shared_room(here, remote)
    for number in range(5):
        await alice.send(room, f"m{number}")
    await alice.put("/rooms/{}/typing/{}", room, alice.user_id, json={"typing": True})
    await until(lambda: texts(remote) == numbered(0, 5))
    await until(lambda: any(asked.json["edus"] for asked in remote.requests("PUT", SEND)))
    asked = remote.requests("PUT", SEND)[0]
    assert asked.origin == asked.json["origin"] == here.name
    assert asked.headers["Content-Type"] == "application/json"


async def test_what_is_not_taken_comes_again_after_the_pause_that_was_asked_for(
    federation: Federation,
) -> None:
    here, remote = await federation.start(), await federation.remote()
    answers = [
        status(429, {"errcode": "M_LIMIT_EXCEEDED", "error": ""}, Retry_After="1"),
        status(500, b"<html>"),
    ]
    remote.answers("PUT", SEND, lambda _: answers.pop(0) if answers else TAKEN)
    alice, room = await shared_room(here, remote)
    began = time.monotonic()
    await alice.send(room, "m0")
    await until(lambda: len(remote.requests("PUT", SEND)) == 3)
    assert time.monotonic() - began >= 3.0
    assert [len(bodies) for bodies in contents(remote).values()] == [1]


async def test_servers_that_drip_or_send_megabytes_delay_nobody(federation: Federation) -> None:
    """Neither another destination nor a client; garbage and ten megabytes are no acknowledgement."""
    here = await federation.start()
    good, dripping, garbage, huge = [await federation.remote(key) for key in ("a_1", "a_2", "a_3", "a_4")]
    entered = asyncio.Event()

    async def drip(_: Asked) -> web.StreamResponse:
        entered.set()
        await asyncio.sleep(300)
        return web.Response(body=b"{}")

    good.answers("PUT", SEND, TAKEN)
    dripping.answers("PUT", SEND, drip)
    garbage.answers("PUT", SEND, b"<html>it works</html>")
    huge.answers("PUT", SEND, b'{"pdus":{"$x":{"error":"%b"}}}' % (b"x" * 10_000_000))
    alice, room = await shared_room(here, good, dripping, garbage, huge)
    await alice.send(room, "m0")
    await entered.wait()
    for number in range(1, 40):
        await alice.send(room, f"m{number}")
    await until(lambda: texts(good) == numbered(0, 40), 20)
    assert len(dripping.requests("PUT", SEND)) == 1
    await until(lambda: all(len(each.requests("PUT", SEND)) >= 2 for each in (garbage, huge)))
    for each in (garbage, huge):
        assert texts(each)[0] == "m0"
        assert all(len(bodies) == 1 for bodies in contents(each).values())


async def test_a_server_that_is_back_gets_what_it_missed(federation: Federation) -> None:
    """It has asked us something: that it can be reached again is tried soon, not at the end of the pause."""
    here, remote = await federation.start(), await federation.remote()
    remote.answers("PUT", SEND, TAKEN)
    alice, room = await shared_room(here, remote)
    remote.away = True
    for number in range(3):
        await alice.send(room, f"m{number}")
    assert here.app is not None
    backoff = here.app.features.federation.backoff
    await until(lambda: backoff.of(remote.name) is not None)
    remote.away = False
    backoff.succeeded(remote.name)
    await until(lambda: texts(remote) == numbered(0, 3))
