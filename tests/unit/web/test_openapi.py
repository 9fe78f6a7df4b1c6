"""The document that is derived from declarations."""

import enum
from typing import Any, Literal

import msgspec

from homeserver.matrix.ids import UserId
from homeserver.web.auth import AdminRequester, Auth, Origin, Requester
from homeserver.web.endpoint import Body, Path, Query, endpoint
from homeserver.web.openapi import document
from homeserver.web.registry import Registry, endpoints_of
from homeserver.web.response import Html, RawJson
from homeserver.web.stream import BodyStream


class Order(enum.Enum):
    UP = "up"
    DOWN = "down"


class User(msgspec.Struct):
    """A user."""

    name: str
    admin: bool = False


class Users(msgspec.Struct):
    users: list[User]


class Api:
    @endpoint("listUsers", "GET", "/_synapse/admin/v2/users", auth=Auth.ADMIN)
    async def users(
        self,
        requester: AdminRequester,
        search: Query[str],
        limit: Query[int] = 100,
        order: Query[Order] = Order.UP,
        dir_: Query[Literal["b", "f"]] = "f",
        names: Query[list[str]] = [],  # noqa: B006  # never written to
    ) -> Users:
        """List accounts.

        In pages.
        """
        raise NotImplementedError

    @endpoint("putUser", "PUT", "/_synapse/admin/v2/users/{userId}", auth=Auth.ADMIN)
    async def put(self, requester: AdminRequester, user_id: Path[UserId], body: Body[User]) -> User: ...

    @endpoint("free", "POST", "/_matrix/client/{v}/free", auth=Auth.OPTIONAL)
    async def free(self, requester: Requester | None, body: Body[dict[str, Any]]) -> RawJson: ...

    @endpoint("upload", "POST", "/_matrix/media/v3/upload", auth=Auth.USER)
    async def upload(self, requester: Requester, stream: BodyStream) -> None: ...

    @endpoint("send", "PUT", "/_matrix/federation/v1/send", auth=Auth.SERVER)
    async def send(self, origin: Origin) -> Html: ...


def test_the_document_says_what_the_declarations_say() -> None:
    Registry().add(Api())
    found = document(endpoints_of(Api), title="Admin", version="1")
    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    listing = found["paths"]["/_synapse/admin/v2/users"]["get"]
    assert (listing["operationId"], listing["summary"], listing["description"]) == (
        "listUsers",
        "List accounts.",
        "In pages.",
    )
    assert listing["parameters"] == [
        {"name": "search", "in": "query", "required": True, "schema": {"type": "string"}},
        {"name": "limit", "in": "query", "required": False, "schema": {"type": "integer", "default": 100}},
        {"name": "order", "in": "query", "required": False, "schema": {"enum": ["up", "down"], "default": "up"}},
        {"name": "dir", "in": "query", "required": False, "schema": {"enum": ["b", "f"], "default": "f"}},
        {
            "name": "names", "in": "query", "required": False,
            "schema": {"type": "array", "items": {"type": "string"}, "default": []},
        },
    ]  # fmt: skip
    assert listing["security"] == [{"accessToken": []}]
    answer = listing["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Users"}
    put = found["paths"]["/_synapse/admin/v2/users/{userId}"]["put"]
    assert put["parameters"][0] == {
        "name": "userId", "in": "path", "required": True, "schema": {"type": "string", "title": "UserId"},
    }  # fmt: skip
    assert put["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/User"
    }
    assert set(found["components"]["schemas"]) == {"User", "Users", "Error"}
    assert found["components"]["schemas"]["User"]["required"] == ["name"]


def test_an_operation_has_one_id_under_each_path() -> None:
    found = document(endpoints_of(Api), title="x", version="1")
    ids = [operation["operationId"] for path in found["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert {"free", "free_1"} <= set(ids)
    assert found["paths"]["/_matrix/client/v3/free"]["post"]["security"] == [{"accessToken": []}, {}]
    assert found["paths"]["/_matrix/federation/v1/send"]["put"]["security"] == [{"serverSignature": []}]
