"""A declaration says everything once, and one that contradicts itself is refused at import."""

from typing import Annotated, Any

import pytest

from homeserver.config.rate_limits import RateLimitSection
from homeserver.matrix.ids import RoomId, UserId
from homeserver.web.auth import AdminRequester, Auth, Origin, Requester
from homeserver.web.binding import Bounds, bind
from homeserver.web.endpoint import Body, Endpoint, Name, Path, Query, endpoint, expand
from homeserver.web.registry import Registry, endpoints_of
from homeserver.web.resources import Resource
from homeserver.web.router import Clash
from homeserver.web.signature import In
from homeserver.web.stream import BodyStream
from tests.support.endpoints import declared


def one(api: type) -> Endpoint:
    (declared,) = endpoints_of(api)
    return declared


def test_everything_is_read_from_the_signature() -> None:
    class Api:
        @endpoint("op", "PUT", "/_matrix/client/{v}/rooms/{roomId}/x/{userId}", auth=Auth.USER)
        async def handler(
            self,
            requester: Requester,
            room_id: Path[RoomId],
            user_id: Path[UserId],
            from_: Query[str | None] = None,
            at: Annotated[Query[int], Name("at", "org.example.at")] = 3,
            body: Body[dict[str, Any]] = {},  # noqa: B006  # never written to
        ) -> None:
            """Do it."""

    declared = one(Api)
    assert declared.paths == (
        "/_matrix/client/v3/rooms/{roomId}/x/{userId}",
        "/_matrix/client/r0/rooms/{roomId}/x/{userId}",
    )
    assert [(p.name, p.source, p.names, p.required) for p in declared.parameters] == [
        ("requester", In.REQUESTER, (), True),
        ("room_id", In.PATH, ("roomId",), True),
        ("user_id", In.PATH, ("userId",), True),
        ("from_", In.QUERY, ("from",), False),
        ("at", In.QUERY, ("at", "org.example.at"), False),
        ("body", In.BODY, (), False),
    ]
    assert (declared.limit, declared.when_suspended, declared.cancel_on_disconnect) == (
        "default",
        False,
        False,
    )
    assert (declared.resource, declared.doc) == (Resource.CLIENT, "Do it.")


@pytest.mark.parametrize(
    ("template", "paths"),
    [
        ("/_matrix/client/{v}/sync", ("/_matrix/client/v3/sync", "/_matrix/client/r0/sync")),
        ("/_matrix/media/{v}/x", ("/_matrix/media/v3/x", "/_matrix/media/r0/x", "/_matrix/media/v1/x")),
        ("/_matrix/client/v1/x", ("/_matrix/client/v1/x",)),
    ],
)
def test_a_version_stands_for_all_that_clients_use(template: str, paths: tuple[str, ...]) -> None:
    assert expand(template) == paths


@pytest.mark.parametrize("template", ["/_matrix/federation/{v}/x", "x"])
def test_a_version_nobody_knows_is_refused(template: str) -> None:
    with pytest.raises(TypeError):
        expand(template)


async def not_awaited(self: object) -> None: ...
async def undeclared(self: object, what: str) -> None: ...
async def untyped(self: object, what) -> None: ...  # type: ignore[no-untyped-def]
async def returns_nothing_said(self: object): ...  # type: ignore[no-untyped-def]
async def not_in_path(self: object, room_id: Path[str]) -> None: ...
async def two_bodies(self: object, a: Body[bytes], b: BodyStream) -> None: ...
async def wants_requester(self: object, requester: Requester) -> None: ...
async def wants_maybe(self: object, requester: Requester | None) -> None: ...
async def wants_admin(self: object, requester: AdminRequester) -> None: ...
async def wants_origin(self: object, origin: Origin) -> None: ...
async def streams_signed(self: object, origin: Origin, stream: BodyStream) -> None: ...
def synchronous(self: object) -> None: ...


@pytest.mark.parametrize(
    ("handler", "path", "auth"),
    [
        (not_awaited, "/a/{roomId}", Auth.NONE),
        (undeclared, "/a", Auth.NONE),
        (untyped, "/a", Auth.NONE),
        (returns_nothing_said, "/a", Auth.NONE),
        (not_in_path, "/a", Auth.NONE),
        (two_bodies, "/a", Auth.NONE),
        (wants_requester, "/a", Auth.NONE),
        (wants_requester, "/a", Auth.SERVER),
        (wants_requester, "/a", Auth.OPTIONAL),
        (wants_maybe, "/a", Auth.USER),
        (wants_admin, "/a", Auth.USER),
        (wants_origin, "/a", Auth.USER),
        (streams_signed, "/a", Auth.SERVER),
        (synchronous, "/a", Auth.NONE),
        (not_in_path, "/a/{roomId}/{roomId}", Auth.NONE),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(handler: Any, path: str, auth: Auth) -> None:
    with pytest.raises(TypeError, match="op: "):
        endpoint("op", "GET", path, auth=auth)(handler)


def test_a_method_nobody_knows_is_refused() -> None:
    with pytest.raises(TypeError):
        endpoint("op", "BREW", "/a", auth=Auth.NONE)


def test_a_type_that_no_text_can_carry_is_refused_when_the_api_is_added() -> None:
    class Api:
        @endpoint("op", "GET", "/a", auth=Auth.NONE)
        async def handler(self, what: Query[dict[str, str]]) -> None: ...

    with pytest.raises(TypeError, match="op: no text"):
        Registry().add(Api())


def test_two_endpoints_cannot_have_one_path() -> None:
    class A:
        @endpoint("a", "GET", "/x/{roomId}", auth=Auth.NONE)
        async def handler(self, room_id: Path[str]) -> None: ...

    class B:
        @endpoint("b", "GET", "/x/{userId}", auth=Auth.NONE)
        async def handler(self, user_id: Path[str]) -> None: ...

    with pytest.raises(Clash, match="b and a"):
        Registry().add(A(), B())


def test_an_object_without_endpoints_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        Registry().add(object())


def test_one_method_can_serve_two_operations() -> None:
    class Api:
        @endpoint("a", "GET", "/a", auth=Auth.NONE)
        @endpoint("b", "POST", "/b", auth=Auth.NONE)
        async def handler(self) -> None: ...

    assert [e.operation_id for e in endpoints_of(Api)] == ["a", "b"]


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/_matrix/client/v3/sync", Resource.CLIENT),
        ("/_matrix/client/v1/media/download/a/b", Resource.MEDIA),
        ("/_matrix/media/v3/upload", Resource.MEDIA),
        ("/_matrix/federation/v1/media/download/a", Resource.FEDERATION),
        ("/_matrix/key/v2/server", Resource.FEDERATION),
        ("/.well-known/matrix/server", Resource.FEDERATION),
        ("/.well-known/matrix/client", Resource.CLIENT),
        ("/_synapse/admin/v1/x", Resource.ADMIN),
        ("/_synapse/client/x", Resource.CLIENT),
        ("/metrics", Resource.METRICS),
        ("/health", Resource.HEALTH),
        ("/", Resource.CLIENT),
    ],
)
def test_a_path_says_which_listeners_carry_it(path: str, resource: Resource) -> None:
    class Api:
        @endpoint("op", "GET", path, auth=Auth.NONE)
        async def handler(self, x: Query[str] = "") -> None: ...

    assert one(Api).resource is resource


def test_the_size_of_a_body_is_declared_or_configured() -> None:
    class Api:
        @endpoint("small", "POST", "/a", auth=Auth.NONE, max_body=5)
        async def small(self) -> None: ...

        @endpoint("client", "POST", "/b", auth=Auth.USER)
        async def client(self) -> None: ...

        @endpoint("server", "POST", "/c", auth=Auth.SERVER)
        async def server(self) -> None: ...

    bounds = Bounds(client_body=10, server_body=20)
    assert [bind(e, Api(), bounds).max_body for e in endpoints_of(Api)] == [5, 10, 20]


def test_every_limit_that_an_endpoint_names_can_be_configured() -> None:
    """API-08"""
    named = {endpoint.limit for endpoint in declared() if endpoint.limit}
    assert named <= set(RateLimitSection.model_fields)
