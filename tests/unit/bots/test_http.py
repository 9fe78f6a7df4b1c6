"""How a bot speaks to its homeserver, and takes what it is told."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from appservices.bots import Bot, Refused, Unreachable
from appservices.bots.client import Client
from appservices.bots.clock import SystemClock
from appservices.bots.fake_homeserver import FakeHomeserver
from appservices.bots.runner import MAX_WAITING, Runner
from appservices.bots.server import BotServer
from appservices.bots.store import Store
from appservices.bots.testing import StandingClock
from appservices.bots.transport import HttpTransport

Serve = Callable[[web.Application], Awaitable[str]]


class WaitedFor(SystemClock):
    """Real time, but nobody waits; how long they would have."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:  # type: ignore[explicit-override]  # a fake
        self.waits.append(seconds)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    runners: list[web.AppRunner] = []

    async def start(app: web.Application) -> str:
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def answering(*answers: web.Response) -> tuple[web.Application, list[web.Request]]:
    left, asked = list(answers), []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        return left.pop(0)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app, asked


async def test_it_waits_as_long_as_it_is_told_and_while_the_server_is_away(serve: Serve) -> None:
    app, asked = answering(
        web.json_response({"errcode": "M_LIMIT_EXCEEDED"}, status=429, headers={"Retry-After": "7"}),
        web.json_response({"errcode": "M_LIMIT_EXCEEDED", "retry_after_ms": 1500}, status=429),
        web.Response(status=502, text="<html>"),
        web.json_response({"event_id": "$1"}),
    )
    clock = WaitedFor()
    client = Client(HttpTransport(await serve(app), "token", clock), "@bot:x")
    assert await client.send("!r:x", "m.room.message", {}, "t/1") == "$1"
    assert clock.waits[:2] == [7.0, 1.5]
    assert len(clock.waits) == 3
    assert {request.headers["Authorization"] for request in asked} == {"Bearer token"}
    assert {request.raw_path for request in asked} == {
        "/_matrix/client/v3/rooms/%21r%3Ax/send/m.room.message/t%2F1"
    }
    await client.transport.close()


async def test_what_is_refused_is_not_tried_again(serve: Serve) -> None:
    app, asked = answering(web.json_response({"errcode": "M_FORBIDDEN", "error": "no"}, status=403))
    transport = HttpTransport(await serve(app), "token", WaitedFor())
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await transport.request("GET", "/_matrix/client/v3/x")
    assert len(asked) == 1
    await transport.close()


async def test_its_patience_ends() -> None:
    transport = HttpTransport("http://127.0.0.1:9", "token", WaitedFor(), patience=0.3)
    with pytest.raises(Unreachable):
        await transport.request("GET", "/_matrix/client/v3/x")
    await transport.close()


async def test_only_the_homeserver_is_listened_to(serve: Serve) -> None:
    store = Store(None)
    server = FakeHomeserver("x", StandingClock())
    runner = Runner(Bot("b"), Client(server.as_user("@b:x"), "@b:x"), store, StandingClock())
    url = await serve(BotServer(runner, "right").application())
    good: dict[str, Any] = {"Authorization": "Bearer right"}
    async with aiohttp.ClientSession() as session, runner.running():

        async def put(txn: str, body: bytes, headers: dict[str, Any]) -> int:
            async with session.put(
                f"{url}/_matrix/app/v1/transactions/{txn}", data=body, headers=headers
            ) as answer:
                return answer.status

        assert await put("1", b"{}", {}) == 401
        assert await put("1", b"{}", {"Authorization": "Bearer wrong"}) == 403
        assert await put("1", b"no", good) == 400
        assert await put("1", b"[]", good) == 400
        assert await put("1", b'{"events": [1, {"event_id": 5}, {"event_id": "$2"}]}', good) == 200
        async with session.post(f"{url}/_matrix/app/v1/ping", json={}, headers=good) as answer:
            assert answer.status == 200
        async with session.get(f"{url}/_matrix/app/v1/users/@b:x", headers=good) as answer:
            assert answer.status == 200
        async with session.get(f"{url}/_matrix/app/v1/users/@c:x", headers=good) as answer:
            assert answer.status == 404
        await runner.idle()
        # What cannot be answered yet waits; when too much does, the homeserver is asked to wait.
        store._db.executemany(
            "INSERT INTO inbox (event_id, event) VALUES (?, '{}')",
            [(f"${number}x",) for number in range(MAX_WAITING)],
        )
        assert await put("2", b'{"events": []}', good) == 503
    store.close()
