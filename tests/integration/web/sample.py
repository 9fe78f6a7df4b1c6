"""A small server of declared endpoints, started on a free port; and what its handlers saw."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec

from homeserver.matrix.errors import Forbidden, UnknownToken
from homeserver.matrix.ids import DeviceId, RoomId, ServerName, UserId
from homeserver.runtime.clock import Entropy, SystemClock
from homeserver.runtime.request_context import count_query
from homeserver.web.auth import AdminRequester, Auth, Origin, Requester
from homeserver.web.binding import Bounds
from homeserver.web.dispatch import Parts
from homeserver.web.endpoint import Body, Form, Header, Name, Path, Query, endpoint
from homeserver.web.listener import Listener
from homeserver.web.metrics import HttpMetrics
from homeserver.web.observe import Observer
from homeserver.web.rate_limit import Rate, RateLimiter
from homeserver.web.registry import Registry
from homeserver.web.request import RequestInfo
from homeserver.web.response import Html, RawJson, Response, Streamed, StreamedJson
from homeserver.web.response_writer import ResponseWriter
from homeserver.web.server import WebServer
from homeserver.web.steering import Steering
from homeserver.web.stream import BodyStream, ClientTimeouts

C = "/_matrix/client/v3"


class Inner(msgspec.Struct):
    number: int


class Typed(msgspec.Struct, kw_only=True):
    name: str
    kind: Literal["a", "b"] = "a"
    count: Annotated[int, msgspec.Meta(ge=0)] = 0
    inner: list[Inner] = []


class AllOptional(msgspec.Struct):
    reason: str | None = None


class Echo(msgspec.Struct):
    values: dict[str, Any]


class SampleApi:
    """Endpoints of every kind. What has to be observed from outside a request is an attribute."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.proceed = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.finished = asyncio.Event()
        self.pieces: list[int] = []
        self.upload_limit = 10_000_000

    @endpoint(
        "echo",
        "GET",
        ["/_matrix/client/{v}/echo", "/_matrix/client/unstable/org.example/echo"],
        auth=Auth.NONE,
    )
    async def echo(
        self,
        info: RequestInfo,
        from_: Query[str | None] = None,
        limit: Query[int] = 10,
        flag: Annotated[Query[bool], Name("flag", "org.example.flag")] = False,
        dir_: Query[Literal["b", "f"]] = "b",
        via: Query[list[str]] = [],  # noqa: B006  # never written to
        user_agent: Header[str] = "",
    ) -> Echo:
        return Echo(
            {
                "from": from_,
                "limit": limit,
                "flag": flag,
                "dir": dir_,
                "via": via,
                "agent": user_agent,
                "ip": info.ip,
            }
        )

    @endpoint("required", "GET", "/_matrix/client/{v}/required", auth=Auth.NONE)
    async def required(self, room_id: Query[RoomId]) -> Echo:
        return Echo({"room_id": room_id})

    @endpoint(
        "send",
        "PUT",
        "/_matrix/client/{v}/rooms/{roomId}/send/{eventType}/{txnId}",
        auth=Auth.USER,
        limit="message",
    )
    async def send(
        self,
        requester: Requester,
        room_id: Path[RoomId],
        event_type: Path[str],
        txn_id: Path[str],
        body: Body[dict[str, Any]],
    ) -> Echo:
        return Echo(
            {"user": requester.user_id, "room": room_id, "type": event_type, "txn": txn_id, "body": body}
        )

    @endpoint(
        "getState",
        "GET",
        [
            f"/_matrix/client/{{v}}/rooms/{{roomId}}/state/{{eventType}}{end}"
            for end in ("/{stateKey}", "", "/")
        ],
        auth=Auth.NONE,
    )
    async def state(self, room_id: Path[str], event_type: Path[str], state_key: Path[str] = "") -> Echo:
        return Echo({"room": room_id, "type": event_type, "key": state_key})

    @endpoint("typed", "POST", "/_matrix/client/{v}/typed", auth=Auth.NONE)
    async def typed(self, body: Body[Typed]) -> Echo:
        return Echo({"name": body.name, "kind": body.kind, "inner": len(body.inner)})

    @endpoint("optional", "POST", "/_matrix/client/{v}/optional", auth=Auth.NONE)
    async def optional(self, body: Body[AllOptional]) -> Echo:
        return Echo({"reason": body.reason})

    @endpoint("form", "POST", "/_matrix/client/{v}/form", auth=Auth.NONE)
    async def form(self, body: Body[Form]) -> Echo:
        return Echo(dict(body))

    @endpoint("nothing", "POST", "/_matrix/client/{v}/nothing", auth=Auth.NONE)
    async def nothing(self) -> None:
        return None

    # --- who asks

    @endpoint("whoami", "GET", "/_matrix/client/{v}/whoami", auth=Auth.USER)
    async def whoami(self, requester: Requester) -> Echo:
        return Echo({"user": requester.user_id})

    @endpoint("maybe", "GET", "/_matrix/client/{v}/maybe", auth=Auth.OPTIONAL)
    async def maybe(self, requester: Requester | None) -> Echo:
        return Echo({"user": requester.user_id if requester else None})

    @endpoint("guest", "GET", "/_matrix/client/{v}/guest", auth=Auth.GUEST_ALLOWED)
    async def guest(self, requester: Requester) -> Echo:
        return Echo({"user": requester.user_id})

    @endpoint("admin", "GET", "/_synapse/admin/v1/thing", auth=Auth.ADMIN)
    async def admin(self, requester: AdminRequester) -> Echo:
        return Echo({"user": requester.user_id, "type": type(requester).__name__})

    @endpoint("appservice", "POST", "/_matrix/client/{v}/appservice", auth=Auth.APPSERVICE)
    async def appservice(self, requester: Requester) -> Echo:
        return Echo({"id": requester.appservice_id})

    @endpoint(
        "logout", "POST", "/_matrix/client/{v}/logout", auth=Auth.USER, allow_locked=True, when_suspended=True
    )
    async def logout(self, requester: Requester) -> None:
        return None

    @endpoint("act", "POST", "/_matrix/client/{v}/act", auth=Auth.USER)
    async def act(self, requester: Requester) -> None:
        return None

    @endpoint("federation", "PUT", "/_matrix/federation/v1/send/{txnId}", auth=Auth.SERVER)
    async def federation(self, origin: Origin, txn_id: Path[str], body: Body[dict[str, Any]]) -> Echo:
        return Echo({"origin": origin.server_name, "txn": txn_id, "body": body})

    # --- answers

    @endpoint("big", "GET", "/_matrix/client/{v}/big", auth=Auth.NONE)
    async def big(self, size: Query[int] = 2000) -> RawJson:
        return RawJson(b'{"a":"' + b"x" * size + b'"}')

    @endpoint("streamed", "GET", "/_matrix/client/{v}/streamed", auth=Auth.NONE)
    async def streamed(self, pieces: Query[int] = 10, fail_after: Query[int] = -1) -> StreamedJson:
        return StreamedJson(self._pieces(pieces, fail_after))

    async def _pieces(self, pieces: int, fail_after: int) -> AsyncIterator[bytes]:
        try:
            for number in range(pieces):
                if number == fail_after:
                    raise RuntimeError("the database is gone")
                self.pieces.append(number)
                yield (b"[" if number == 0 else b",") + b'"%d%s"' % (number, b"x" * 1000)
            yield b"]"
        finally:
            self.finished.set()

    @endpoint("file", "GET", "/_matrix/media/{v}/file", auth=Auth.NONE)
    async def file(self, name: Query[str] = "a.png") -> Streamed:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"12345"
            yield b"67890"

        return Streamed(
            pieces(), "image/png", 10, headers={"Content-Disposition": f"inline; filename={name}"}
        )

    @endpoint("page", "GET", "/_matrix/client/{v}/page", auth=Auth.NONE)
    async def page(self) -> Html:
        return Html("<h1>hello</h1>")

    @endpoint("teapot", "GET", "/_matrix/client/{v}/teapot", auth=Auth.NONE)
    async def teapot(self, header: Query[str] = "x") -> Response:
        return Response(418, {"a": 1}, {"X-Thing": header})

    @endpoint("upload", "POST", "/_matrix/media/{v}/upload", auth=Auth.NONE, max_body=2**40)
    async def upload(self, stream: BodyStream) -> Echo:
        stream.narrow(self.upload_limit)
        size = 0
        async for piece in stream:
            size += len(piece)
            self.entered.set()
        return Echo({"size": size, "type": stream.content_type})

    @endpoint("fails", "GET", "/_matrix/client/{v}/fails", auth=Auth.NONE)
    async def fails(self) -> None:
        raise RuntimeError("secret detail")

    @endpoint("queries", "GET", "/_matrix/client/{v}/queries", auth=Auth.NONE)
    async def queries(self) -> None:
        count_query()
        count_query()

    # --- time

    @endpoint("wait", "GET", "/_matrix/client/{v}/wait", auth=Auth.NONE)
    async def wait(self, info: RequestInfo) -> Echo:
        self.entered.set()
        try:
            await info.closing.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Echo({"closing": True})

    @endpoint("write", "POST", "/_matrix/client/{v}/write", auth=Auth.NONE)
    async def write(self) -> Echo:
        self.entered.set()
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        self.finished.set()
        return Echo({"written": True})


class Tokens:
    """`alice` is cached, `slow` has to be looked up; the rest says it all."""

    def __init__(self) -> None:
        self.known = {
            name: Requester(
                user_id=UserId(f"@{name}:localhost"), user_nid=n, device_id=DeviceId("D"), token_nid=n
            )
            for n, name in enumerate(("alice", "slow"), 1)
        }
        self.known["guest"] = _user("guest", is_guest=True)
        self.known["admin"] = _user("admin", is_admin=True)
        self.known["bridge"] = _user("bridge", appservice_id="irc", rate_limited=False)
        self.known["locked"] = _user("locked", locked=True)
        self.known["suspended"] = _user("suspended", suspended=True)

    def cached(self, token: str, info: RequestInfo) -> Requester | None:
        return None if token == "slow" else self.known.get(token)

    async def authenticate(self, token: str, info: RequestInfo, *, allow_expired: bool = False) -> Requester:
        await asyncio.sleep(0)
        if token not in self.known:
            raise UnknownToken("This token is not known", soft_logout=False)
        return self.known[token]


class Signatures:
    async def authenticate(self, info: RequestInfo, body: bytes) -> Origin:
        if info.headers.get("Authorization") != f"X-Matrix {info.method} {info.uri} {len(body)}":
            raise Forbidden("The signature does not fit")
        return Origin(server_name=ServerName("other.example"))


def _user(name: str, **flags: Any) -> Requester:
    return Requester(user_id=UserId(f"@{name}:localhost"), user_nid=99, token_nid=99, **flags)


class Running:
    """The sample server at work."""

    def __init__(
        self, web: WebServer, api: SampleApi, lines: list[dict[str, Any]], metrics: HttpMetrics
    ) -> None:
        self.web, self.api, self.lines, self.metrics = web, api, lines, metrics
        _, host, self.port = web.addresses[0]
        self.url = f"http://{host}:{self.port}"


@contextlib.asynccontextmanager
async def running(
    *listeners: Listener,
    timeouts: ClientTimeouts | None = None,
    rates: dict[str, Rate] | None = None,
    extra: tuple[object, ...] = (),
    bounds: Bounds | None = None,
    keepalive: float = 120,
    max_connections: int | None = None,
    max_per_client: int | None = None,
    steering: Steering | None = None,
) -> AsyncIterator[Running]:
    """A server with the sample's endpoints and `extra` ones, until the block ends."""
    clock, api, metrics, lines = SystemClock(), SampleApi(), HttpMetrics(), list[dict[str, Any]]()
    timeouts = timeouts or ClientTimeouts()
    registry = Registry(bounds or Bounds(timeouts=timeouts))
    registry.add(api, *extra)
    parts = Parts(
        authenticator=Tokens(),
        server_authenticator=Signatures(),
        limiter=RateLimiter(clock, rates or {}, guest_factor=0.5),
        observer=Observer(clock, metrics, lines.append),
        writer=ResponseWriter(clock, timeouts),
        timeouts=timeouts,
    )
    web = WebServer(
        registry,
        parts,
        Entropy(),
        keepalive=keepalive,
        max_connections=max_connections,
        max_per_client=max_per_client,
        steering=steering,
    )
    await web.start(listeners or [Listener(port=0, trusted_proxies=("10.0.0.0/8",))])
    try:
        yield Running(web, api, lines, metrics)
    finally:
        await web.stop(grace=2)
