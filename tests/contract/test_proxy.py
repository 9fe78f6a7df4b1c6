"""The checking proxy hands through what it is given, and remembers what was wrong."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import yarl
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.client import ContractError
from tests.support.proxy import CheckingProxy


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        if "wrong" in request.path:
            return web.json_response({"error": "no code"}, status=400)
        return web.Response(
            body=await request.read(),
            headers={"X-Target": request.raw_path, "X-Token": request.headers.get("Authorization", "-")},
            content_type="image/png",
        )

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def test_a_request_passes_unchanged(echo: str) -> None:
    """API-17."""
    with CheckingProxy(echo) as proxy:
        url = yarl.URL(f"{proxy.url}/somewhere/a%2Fb?x=%C3%A9+1", encoded=True)
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer t"}) as session,
            session.post(url, data=b"\x00body") as answer,
        ):
            assert await answer.read() == b"\x00body"
            assert answer.headers["X-Target"] == "/somewhere/a%2Fb?x=%C3%A9+1"
            assert answer.headers["X-Token"] == "Bearer t"
        assert proxy.checked == 1


async def test_a_wrong_answer_is_told_at_the_end(echo: str) -> None:
    proxy = CheckingProxy(echo).start()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{proxy.url}/_matrix/client/v3/wrong") as answer,
    ):
        assert answer.status == 400
    await asyncio.to_thread(proxy.stop)
    with pytest.raises(ContractError, match="API-01"):
        proxy.verify()


async def test_a_server_that_is_down_is_no_breach_of_contract() -> None:
    with CheckingProxy("http://127.0.0.1:9") as proxy:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{proxy.url}/_matrix/client/versions") as answer,
        ):
            assert answer.status == 502
