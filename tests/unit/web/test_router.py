"""From method and path to an endpoint."""

import pytest

from homeserver.matrix.errors import InvalidParam, Unrecognized
from homeserver.web.auth import Auth
from homeserver.web.endpoint import Path, Query, endpoint
from homeserver.web.registry import Registry
from homeserver.web.resources import Resource
from homeserver.web.router import Router


class Api:
    @endpoint("sync", "GET", "/sync", auth=Auth.NONE)
    async def sync(self) -> None: ...

    @endpoint("member", "GET", "/rooms/{roomId}/members", auth=Auth.NONE)
    async def members(self, room_id: Path[str]) -> None: ...

    @endpoint("invite", "POST", "/rooms/{roomId}/members", auth=Auth.NONE)
    async def invite(self, room_id: Path[str]) -> None: ...

    @endpoint("field", "GET", "/profile/{userId}/{keyName}", auth=Auth.NONE)
    async def field(self, user_id: Path[str], key_name: Path[str]) -> None: ...

    @endpoint("setName", "PUT", "/profile/{userId}/displayname", auth=Auth.NONE)
    async def name(self, user_id: Path[str]) -> None: ...

    @endpoint("deep", "GET", "/profile/{userId}/displayname/history", auth=Auth.NONE)
    async def deep(self, user_id: Path[str]) -> None: ...

    @endpoint("file", "GET", "/files/{+path}", auth=Auth.NONE)
    async def file(self, path: Path[str]) -> None: ...

    @endpoint("info", "GET", "/files/{name}/info", auth=Auth.NONE)
    async def info(self, name: Path[str]) -> None: ...

    @endpoint("fixed", "GET", "/profile/me/{keyName}/history", auth=Auth.NONE)
    async def fixed(self, key_name: Path[str], x: Query[str] = "") -> None: ...


@pytest.fixture
def router() -> Router:
    registry = Registry()
    registry.add(Api())
    return registry.router(set(Resource))


@pytest.mark.parametrize(
    ("method", "path", "operation", "values"),
    [
        ("GET", "/sync", "sync", {}),
        ("HEAD", "/sync", "sync", {}),
        ("GET", "/s%79nc", "sync", {}),
        ("GET", "/rooms/!a:b/members", "member", {"roomId": "!a:b"}),
        ("POST", "/rooms/!a:b/members", "invite", {"roomId": "!a:b"}),
        ("GET", "/rooms/a%2Fmembers/members", "member", {"roomId": "a/members"}),
        ("GET", "/profile/@a:b/displayname", "field", {"userId": "@a:b", "keyName": "displayname"}),
        ("PUT", "/profile/@a:b/displayname", "setName", {"userId": "@a:b"}),
        ("GET", "/profile/@a:b/displayname/history", "deep", {"userId": "@a:b"}),
        ("GET", "/profile/me/displayname/history", "fixed", {"keyName": "displayname"}),
        ("GET", "/files/", "file", {"path": ""}),
        ("GET", "/files/a/b%2Fc", "file", {"path": "a/b/c"}),
        ("GET", "/files/a/info", "info", {"name": "a"}),
        ("GET", "/files/a/info/b", "file", {"path": "a/info/b"}),
        ("GET", "/files//info", "file", {"path": "/info"}),
        ("GET", "/profile/me/displayname", "field", {"userId": "me", "keyName": "displayname"}),
    ],
)
def test_the_most_literal_path_that_knows_the_method_is_found(
    router: Router, method: str, path: str, operation: str, values: dict[str, str]
) -> None:
    """API-17"""
    route, found = router.find(method, path)
    assert (route.bound.endpoint.operation_id, found) == (operation, values)


@pytest.mark.parametrize(
    "path", ["/", "", "/nope", "/sync/", "/rooms//members", "/rooms/a", "/" + "a/" * 100]
)
def test_an_unknown_path_is_404(router: Router, path: str) -> None:
    """API-02"""
    with pytest.raises(Unrecognized) as refused:
        router.find("GET", path)
    assert refused.value.http_status == 404


def test_another_method_is_405_and_says_which_there_are(router: Router) -> None:
    """API-02"""
    with pytest.raises(Unrecognized) as refused:
        router.find("DELETE", "/profile/@a:b/displayname")
    assert refused.value.http_status == 405
    assert refused.value.headers["Allow"] == "GET, HEAD, OPTIONS, PUT"


@pytest.mark.parametrize("path", ["/rooms/%FF/members", "/rooms/%00/members", "/rooms/\udcff/members"])
def test_a_path_that_is_no_text_is_invalid(router: Router, path: str) -> None:
    """API-17"""
    with pytest.raises(InvalidParam):
        router.find("GET", path)
