"""What the web plumbing costs: CPU per small authenticated JSON GET, beside a bare aiohttp handler.

    python benchmarks/core/web_overhead.py [--requests N] [--connections N]

Both servers run in this process, the client in another; the figure is CPU time of this process per request. Modes:
`aiohttp` (its own Response with the same headers), `direct` (one write of ready bytes: what the socket and the
parser cost), `atrium` (route with two path parameters, cached token, encode, metrics, no log line), `atrium put` (a
small body and a rate limit), and `atrium` with a line per request, written directly or by way of structlog.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from pathlib import Path as FilePath
from typing import Any

import msgspec
import structlog
import uvloop
from aiohttp import web

from homeserver.matrix.ids import RoomId, UserId
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.web import cors
from homeserver.web.auth import Auth, Requester
from homeserver.web.connection import Connection
from homeserver.web.dispatch import Parts
from homeserver.web.endpoint import Body, Path, endpoint
from homeserver.web.listener import Listener
from homeserver.web.metrics import HttpMetrics
from homeserver.web.observe import Line, Observer, json_line, structlog_line
from homeserver.web.rate_limit import Rate, RateLimiter
from homeserver.web.registry import Registry
from homeserver.web.response_writer import ResponseWriter
from homeserver.web.server import WebServer
from homeserver.web.stream import ClientTimeouts

HEADERS = (
    "Host: localhost\r\nAuthorization: Bearer syt_abcdefghijklmnopqrstuvwxyz\r\nAccept: */*\r\n"
    "User-Agent: bench\r\nAccept-Encoding: gzip, deflate\r\n"
)
GET = f"GET /_matrix/client/v3/rooms/!abcdefgh:localhost/event/$abc HTTP/1.1\r\n{HEADERS}\r\n".encode()
PUT_BODY = b'{"msgtype":"m.text","body":"hello there, this is a message"}'
PUT = (
    f"PUT /_matrix/client/v3/rooms/!abcdefgh:localhost/send/m.room.message/t1 HTTP/1.1\r\n{HEADERS}"
    f"Content-Type: application/json\r\nContent-Length: {len(PUT_BODY)}\r\n\r\n"
).encode() + PUT_BODY


class Small(msgspec.Struct):
    event_id: str


class Api:
    @endpoint("get", "GET", "/_matrix/client/{v}/rooms/{roomId}/event/{eventId}", auth=Auth.USER)
    async def get(self, requester: Requester, room_id: Path[RoomId], event_id: Path[str]) -> Small:  # noqa: ARG002
        return Small(event_id)

    @endpoint(
        "put",
        "PUT",
        "/_matrix/client/{v}/rooms/{roomId}/send/{eventType}/{txnId}",
        auth=Auth.USER,
        limit="message",
    )
    async def put(
        self,
        requester: Requester,  # noqa: ARG002
        room_id: Path[RoomId],  # noqa: ARG002
        event_type: Path[str],  # noqa: ARG002
        txn_id: Path[str],
        body: Body[dict[str, Any]],  # noqa: ARG002
    ) -> Small:
        return Small(txn_id)


class Tokens:
    def __init__(self) -> None:
        self._known = {
            "syt_abcdefghijklmnopqrstuvwxyz": Requester(user_id=UserId("@a:localhost"), user_nid=1)
        }

    def cached(self, token: str, info: object) -> Requester | None:  # noqa: ARG002
        return self._known.get(token)

    async def authenticate(self, token: str, info: object) -> Requester:  # noqa: ARG002
        raise AssertionError


async def bare(_request: web.BaseRequest) -> web.StreamResponse:
    headers = dict(cors.ON_EVERY_ANSWER)
    return web.Response(body=b'{"event_id":"$abc"}', headers=headers, content_type="application/json")


READY = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 19\r\n"
    + "".join(f"{k}: {v}\r\n" for k, v in cors.ON_EVERY_ANSWER)
    + '\r\n{"event_id":"$abc"}'
).encode()


class Direct:
    """Connections that are answered with ready bytes. See `homeserver.web.connection.ConnectionOwner`."""

    keepalive = 120.0

    async def answer(self, connection: Connection, message: object, content: object) -> bool:  # noqa: ARG002
        assert connection.transport is not None
        connection.transport.write(READY)
        return True

    def opened(self, connection: Connection) -> bool:  # noqa: ARG002
        return True

    def closed(self, connection: Connection) -> None:
        pass


NOWHERE = FilePath(os.devnull).open("wb")  # noqa: SIM115  # for the whole run


def line_of(name: str) -> Line | None:
    if name == "json":
        return json_line(NOWHERE, SystemClock())
    return structlog_line if name == "structlog" else None


async def serve_atrium(line: str) -> tuple[WebServer, int]:
    clock, timeouts, registry = SystemClock(), ClientTimeouts(), Registry()
    registry.add(Api())
    parts = Parts(
        authenticator=Tokens(),
        server_authenticator=None,
        limiter=RateLimiter(clock, {"message": Rate(1e6, 1_000_000)}),
        observer=Observer(clock, HttpMetrics(), line_of(line)),
        writer=ResponseWriter(clock, timeouts),
        timeouts=timeouts,
    )
    server = WebServer(registry, parts, Entropy())
    await server.start([Listener(port=0)])
    return server, server.addresses[0][2]


async def load(port: int, what: bytes, requests: int, connections: int) -> None:
    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests // connections):
            writer.write(what)
            await reader.readuntil(b'"}')
        writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one())


async def measure(port: int, what: str, options: argparse.Namespace) -> float:
    before = time.process_time()
    client = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--client", str(port), what,
        "--requests", str(options.requests), "--connections", str(options.connections),
    )  # fmt: skip
    assert await client.wait() == 0
    return (time.process_time() - before) / options.requests * 1e6


async def main(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    structlog.configure(
        processors=[
            structlog.processors.JSONRenderer(serializer=lambda value, **_: msgspec.json.encode(value))
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.BytesLoggerFactory(file=NOWHERE),
        cache_logger_on_first_use=True,
    )
    targets: list[tuple[str, int, str]] = []
    for name, protocol in (
        ("aiohttp", web.Server(bare, access_log=None)),
        ("direct", lambda: Connection(Direct())),
    ):
        sockets = await loop.create_server(protocol, "127.0.0.1", 0)
        targets.append((name, sockets.sockets[0].getsockname()[1], "get"))
    for name, line, what in (
        ("atrium", "none", "get"),
        ("atrium put", "none", "put"),
        ("atrium + JSON line", "json", "get"),
        ("atrium + structlog", "structlog", "get"),
    ):
        _server, port = await serve_atrium(line)
        targets.append((name, port, what))
    figures: dict[str, list[float]] = {name: [] for name, _, _ in targets}
    for _ in range(options.rounds):  # interleaved: what else runs on this machine hits all alike
        for name, port, what in targets:
            figures[name].append(await measure(port, what, options))
    for name, found in figures.items():
        print(f"{name:20} {min(found):6.1f} µs  ({', '.join(f'{f:.1f}' for f in found)})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--client", nargs=2)
    chosen = parser.parse_args()
    if chosen.client:
        sent = {"get": GET, "put": PUT}[chosen.client[1]]
        uvloop.run(load(int(chosen.client[0]), sent, chosen.requests, chosen.connections))
    else:
        uvloop.run(main(chosen))
