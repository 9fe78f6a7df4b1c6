"""Signed requests between servers: two Atriums ask each other, and a scripted server is asked and asks."""

from typing import Any

import pytest
from multidict import CIMultiDict

from federation.ports import Ask, BadAnswer, NotPermitted, RemoteError
from homeserver.matrix.errors import Unauthorized
from homeserver.matrix.ids import ServerName
from tests.support.federation import Federation
from tests.support.remote_server import status


class FakeInfo:
    """Of a request what is looked at to recognise a server."""

    def __init__(self, method: str, uri: str, authorization: list[str]) -> None:
        self.method = method
        self.uri = uri
        self.headers = CIMultiDict([("Authorization", each) for each in authorization])
        self.ip = "192.0.2.1"


VERSION = Ask(method="GET", path=("_matrix", "federation", "v1", "version"))


async def test_two_servers_ask_each_other(federation: Federation) -> None:
    one, two = await federation.start(), await federation.start()
    for here, there in ((one, two), (two, one)):
        answer: dict[str, Any] = await here.app.features.federation.client.ask(there.name, VERSION, dict)
        assert answer["server"]["name"] == "Atrium"


async def test_a_request_says_who_asks_whom_and_is_signed(federation: Federation) -> None:
    """FED-01, FED-03, DISC-09"""
    here, remote = await federation.start(), await federation.remote()
    remote.answers("PUT", "/_matrix/federation/v1/send/*", {"pdus": {}})
    ask = Ask(method="PUT", path=("_matrix", "federation", "v1", "send", "a/b"), content={"pdus": [], "é": 1})
    answer = await here.app.features.federation.client.ask(remote.name, ask, dict)
    assert answer == {"pdus": {}}
    [asked] = remote.asked
    assert asked.path == "/_matrix/federation/v1/send/a%2Fb"
    assert asked.origin == here.name
    assert f'destination="{remote.name}"' in asked.headers["Authorization"]
    assert asked.headers["Host"] == remote.name


async def test_errors_are_told_apart(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    client = here.app.features.federation.client
    with pytest.raises(RemoteError) as refused:
        await client.ask(remote.name, VERSION, dict)
    assert (refused.value.status, refused.value.errcode) == (404, "M_UNRECOGNIZED")
    remote.answers(
        "GET", "*/version", status(429, {"errcode": "M_LIMIT_EXCEEDED", "error": "x"}, Retry_After="7")
    )
    with pytest.raises(RemoteError) as limited:
        await client.ask(remote.name, VERSION, dict)
    assert limited.value.retry_after == 7
    remote.answers("GET", "*/version", b"<html>")
    with pytest.raises(BadAnswer):
        await client.ask(remote.name, VERSION, dict)
    with pytest.raises(NotPermitted):
        await client.ask(ServerName(here.name), VERSION, dict)


async def test_a_signed_request_is_recognised_and_another_is_not(federation: Federation) -> None:
    """FED-01, FED-04"""
    here, remote = await federation.start(), await federation.remote()
    uri = "/_matrix/federation/v1/user/devices/%40a%3Ab"
    header = remote.authorization(here.name, "GET", uri, None)
    auth = here.app.features.server_authenticator
    origin = await auth.authenticate(FakeInfo("GET", uri, [header]), b"")
    assert origin.server_name == remote.name
    for info in (
        FakeInfo("GET", uri + "x", [header]),
        FakeInfo("PUT", uri, [header]),
        FakeInfo("GET", uri, []),
        FakeInfo("GET", uri, ["Bearer x"]),
    ):
        with pytest.raises(Unauthorized):
            await auth.authenticate(info, b"")
    assert len(remote.requests("GET", "/_matrix/key/v2/server")) == 1


async def test_where_this_server_is_told(federation: Federation) -> None:
    """DISC-04"""
    there = await federation.start(server={"federation_address": "matrix.one.example:443"})
    nowhere, remote = await federation.start(), await federation.remote()
    uri = "/.well-known/matrix/server"
    assert await remote.ask(there, "GET", uri, headers={}) == (200, {"m.server": "matrix.one.example:443"})
    assert (await remote.ask(nowhere, "GET", uri, headers={}))[0] == 404


async def test_a_large_body_arrives_whole(federation: Federation) -> None:
    here, remote = await federation.start(), await federation.remote()
    remote.answers("PUT", "*/send/1", lambda asked: {"bytes": len(asked.json["x"])})
    ask = Ask(method="PUT", path=("_matrix", "federation", "v1", "send", "1"), content={"x": "y" * 3_000_000})
    for _ in range(2):
        assert await here.app.features.federation.client.ask(remote.name, ask, dict) == {"bytes": 3_000_000}
