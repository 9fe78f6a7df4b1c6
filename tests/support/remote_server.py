"""Another homeserver, scripted: it signs with its own key, answers what a test tells it, and records what it was asked.

    remote = await federation.remote()
    remote.answers("GET", "/_matrix/federation/v1/event/*", {"pdus": [...]})           # or a function of `Asked`
    remote.answers("PUT", "/_matrix/federation/v1/send/*", status(429, {"errcode": "M_LIMIT_EXCEEDED", "error": ""}))
    status, body = await remote.ask(server, "GET", "/_matrix/federation/v1/query/profile?user_id=…")
    event = remote.event("11", "m.room.message", {"body": "x"}, room_id=…, prev=[…], auth=[…], depth=5)
    assert remote.requests("PUT", "/_matrix/federation/v1/send/*")[0].json["pdus"]

What nobody scripted is 404 `M_UNRECOGNIZED`; `/key/v2/server` is answered with its key unless scripted. Later scripts are asked
before earlier ones. `remote.away = True` cuts connections off.
"""

import asyncio
import io
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

import aiohttp
from aiohttp import web
from multidict import MultiMapping

from federation import x_matrix
from federation.x_matrix import Signer
from homeserver.events.builder import EventDraft, build_event
from homeserver.events.event import Event
from homeserver.events.room_version import ROOM_VERSIONS
from homeserver.matrix import base64, canonical_json
from homeserver.matrix.ids import RoomId, ServerName, UserId
from homeserver.matrix.signing import SigningKey, sign_json
from tests.support.server import Server


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    """Still percent-encoded."""
    query: MultiMapping[str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def origin(self) -> str:
        """Who says to have asked; the signature is not checked."""
        return x_matrix.parse(self.headers["Authorization"]).origin


@dataclass(frozen=True)
class Status:
    """An answer other than 200."""

    status: int
    body: Any
    headers: Mapping[str, str]


def status(code: int, body: Any, **headers: str) -> Status:
    """`status(429, {...}, Retry_After="5")`"""
    return Status(code, body, {name.replace("_", "-"): value for name, value in headers.items()})


Said = Any
"""A JSON value; `bytes` as they are; a `Status`; an aiohttp response."""
Script = Said | Callable[[Asked], Said] | Callable[[Asked], Awaitable[Said]]


class RemoteServer:
    """Serves while it is entered."""

    def __init__(
        self, port: int, seed: bytes, key: str, tls: ssl.SSLContext, trusting: ssl.SSLContext
    ) -> None:
        self.name = ServerName(f"localhost:{port}")
        self.key = SigningKey(seed, key)
        self.old_keys: dict[str, Any] = {}
        """`old_verify_keys` of its answer."""
        self.valid_for_ms = 24 * 3600 * 1000
        self.away = False
        self.asked: list[Asked] = []
        self._port = port
        self._tls = tls
        self._trusting = trusting
        self._scripts: list[tuple[str, str, Script]] = []

    async def __aenter__(self) -> Self:
        self._server = web.Server(self._handle)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls).start()
        connector = aiohttp.TCPConnector(ssl=self._trusting, force_close=True)
        self._session = aiohttp.ClientSession(connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """From now on nobody answers there."""
        await self._session.close()
        await self._runner.cleanup()

    # --- being asked -----------------------------------------------------------------------------------------------

    def answers(self, method: str, path: str, said: Script) -> None:
        """What is answered to requests whose encoded path fits (`*` is anything)."""
        self._scripts.insert(0, (method, path, said))

    def requests(self, method: str, path: str) -> list[Asked]:
        """What came so far to such a path, oldest first."""
        return [each for each in self.asked if each.method == method and fnmatchcase(each.path, path)]

    def key_response(self, **changes: Any) -> dict[str, Any]:
        """What it says of its keys, signed; `changes` are made before it signs."""
        told = {
            "server_name": self.name,
            "valid_until_ts": int(time.time() * 1000) + self.valid_for_ms,
            "verify_keys": {self.key.key_id: {"key": base64.encode(self.key.public_key)}},
            "old_verify_keys": self.old_keys,
            **changes,
        }
        return self.sign(told)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        asked = Asked(request.method, path, request.query, request.headers, await request.content.read())
        if self.away:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        self.asked.append(asked)
        said = await self._said(asked)
        if isinstance(said, web.StreamResponse):
            return said
        if not isinstance(said, Status):
            said = Status(200, said, {})
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        return web.Response(
            status=said.status, body=body, content_type="application/json", headers=said.headers
        )

    async def _said(self, asked: Asked) -> Said:
        for method, path, script in self._scripts:
            if method == asked.method and fnmatchcase(asked.path, path):
                said = script(asked) if callable(script) else script
                return await said if asyncio.iscoroutine(said) else said
        if asked.path == "/_matrix/key/v2/server":
            return self.key_response()
        return status(404, {"errcode": "M_UNRECOGNIZED", "error": "Nobody has scripted this"})

    # --- asking ----------------------------------------------------------------------------------------------------

    async def ask(
        self,
        server: Server,
        method: str,
        uri: str,
        content: Any = None,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, Any]:
        """Ask an Atrium of this process, signed; (status, JSON). `uri`: path and query, encoded.

        `headers` stand in the place of our signature, `body` in that of the content's canonical JSON.
        """
        if body is None and content is not None:
            body = canonical_json.encode(content)
        status, text, _ = await self.fetch(server, uri, method=method, headers=headers, body=body)
        return status, json.loads(text) if text else None

    async def fetch(
        self,
        server: Server,
        uri: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        body: bytes | None = None,
    ) -> tuple[int, bytes, Mapping[str, str]]:
        """As `ask`, for an answer that is no JSON: (status, body, headers)."""
        if headers is None:
            headers = {"Authorization": self.authorization(server.name, method, uri, body)}
        url = aiohttp.client.URL(f"https://{server.name}{uri}", encoded=True)
        data = body and io.BytesIO(body)
        async with self._session.request(method, url, headers=headers, data=data) as response:
            return response.status, await response.read(), response.headers

    def authorization(self, destination: str, method: str, uri: str, body: bytes | None) -> str:
        """The header of a request of this server."""
        return Signer(self.name, self.key).authorization(method, uri, ServerName(destination), body)

    # --- signing ---------------------------------------------------------------------------------------------------

    def user(self, localpart: str) -> UserId:
        return UserId(f"@{localpart}:{self.name}")

    def sign(self, obj: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON object with this server's signature."""
        return sign_json(obj, self.name, self.key)

    def event(
        self,
        version: str,
        event_type: str,
        content: Mapping[str, Any],
        *,
        state_key: str | None = None,
        sender: str | None = None,
        **more: Any,
    ) -> Event:
        """A signed event of a user here. `more`: `room_id`, `prev`, `auth`, `depth` and others of `build_event`."""
        draft = EventDraft(event_type, state_key, UserId(sender or self.user("someone")), content)
        arguments: dict[str, Any] = {
            "room_id": RoomId("!room:one.example"),
            "prev": [],
            "auth": [],
            "depth": 1,
            "origin_server_ts": int(time.time() * 1000),
            "server_name": self.name,
            "signing_key": self.key,
            **more,
        }
        return build_event(draft, room_version=ROOM_VERSIONS[version], **arguments)
