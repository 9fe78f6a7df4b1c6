"""The tests' own client, tried on a server that answers with the specification's examples (and on one that lies)."""

import copy
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support import spec_files
from tests.support.client import CheckedClient, ContractError, fill, query_string
from tests.support.spec import Spec, load
from tests.support.user import User

CORS = {"Access-Control-Allow-Origin": "*"}


@pytest.fixture
async def example_server() -> AsyncIterator[TestServer]:
    """Every GET of the client-server API answers with the first example the specification has for its 200."""
    spec = load()
    if spec is None:
        pytest.skip(spec_files.ABSENT)
    server = TestServer(examples_of(spec))
    await server.start_server()
    yield server
    await server.close()


def examples_of(spec: Spec) -> web.Application:
    async def example(request: web.Request) -> web.Response:
        found = spec.find(request.method, request.rel_url.raw_path)
        examples = found[0].examples(200) if found else []
        if not examples:
            error = {"errcode": "M_UNRECOGNIZED", "error": "Unrecognized request"}
            return web.json_response(error, status=404, headers=CORS)
        body = copy.deepcopy(examples[0])
        if (
            found[0].operation_id == "sync"
        ):  # the one example that the prose (SYNC-21) and reason (SYNC-04) refuse
            body["device_unused_fallback_key_types"] = []
            (room,) = body["rooms"]["join"].values()
            room["timeline"]["events"][0]["event_id"] = "$another:example.org"
        return web.json_response(body, headers=CORS)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", example)
    return app


async def test_what_keeps_the_contract_comes_back_as_values(example_server: TestServer) -> None:
    async with CheckedClient(str(example_server.make_url(""))) as client:
        alice = User(client, "@alice:example.org", "token", "DEVICE")
        assert "versions" in await client.get("/_matrix/client/versions")
        assert "user_id" in await alice.get("/account/whoami")
        assert "events" in (await alice.sync())["presence"]
        assert alice.since == "s72595_4483_1934"
        message = await alice.sees("!726s6s6q:example.com", "This is an example text message")
        assert message["type"] == "m.room.message"
        assert (await alice.messages("!a/b:example.com"))["chunk"]
        await client.get("/nobody/knows/this", expect=(404, "M_UNRECOGNIZED"))
        assert client.checked == 5


@pytest.mark.parametrize(
    ("status", "body", "expect", "said"),
    [
        (200, {"user_id": 7}, 200, 'at /user_id: 7 is not of type "string"'),
        (
            200,
            {"user_id": "@a:b", "is_guest": False},
            (403, "M_FORBIDDEN"),
            "expected 403 M_FORBIDDEN, got 200",
        ),
        (
            403,
            {"errcode": "M_UNKNOWN", "error": "?"},
            (403, "M_FORBIDDEN"),
            "expected M_FORBIDDEN, got M_UNKNOWN",
        ),
        (403, {"errcode": "M_FORBIDDEN"}, None, "API-01"),
        (500, {"errcode": "M_UNKNOWN", "error": "?"}, None, "no test expects a 500"),
    ],
)
async def test_what_breaks_it_is_told_with_the_whole_exchange(
    status: int, body: object, expect: int | tuple[int, str] | None, said: str
) -> None:
    if load() is None:
        pytest.skip(spec_files.ABSENT)

    async def lie(request: web.Request) -> web.Response:
        return web.json_response(body, status=status, headers=CORS)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", lie)
    async with TestServer(app) as server, CheckedClient(str(server.make_url(""))) as client:
        with pytest.raises(ContractError) as told:
            await client.get("/account/whoami", params={"x": "é"}, expect=expect)
    assert "GET /_matrix/client/v3/account/whoami?x=" in str(told.value)
    assert f"< {status} application/json" in str(told.value)
    assert said in str(told.value)


def test_path_arguments_are_encoded_whole() -> None:
    """API-17."""
    assert (
        fill("/rooms/{}/state/{}/{}", ["!a:b", "t/x", ""]) == "/_matrix/client/v3/rooms/%21a%3Ab/state/t%2Fx/"
    )
    assert fill("/_matrix/federation/v1/event/{}", ["$é?"]) == "/_matrix/federation/v1/event/%24%C3%A9%3F"
    assert fill("/.well-known/matrix/client", []) == "/.well-known/matrix/client"
    with pytest.raises(TypeError):
        fill("/rooms/{}", [])


def test_query_parameters_travel_as_the_specification_writes_them() -> None:
    params = {"a": None, "b": True, "c": ["x", "y"], "d": {"e": 1}, "f": 5}
    assert query_string(params) == "?b=true&c=x&c=y&d=%7B%22e%22%3A%201%7D&f=5"
    assert query_string(None) == ""
