"""Declaring an endpoint: the method's signature is the schema of the request, its return type that of the answer.

    @endpoint("getRoomTags", "GET", "/_matrix/client/{v}/user/{userId}/rooms/{roomId}/tags", auth=Auth.USER)
    async def tags(self, requester: Requester, user_id: Path[UserId], room_id: Path[RoomId]) -> Tags: ...

Owns the decorator, the markers of where a parameter travels, and the frozen `Endpoint`. Everything is checked when
the module is imported; routing, validation, contract tests and documents are derived from it.

A parameter is one of
- `Path[T]`: `room_id` is `{roomId}` of the template; percent-decoded once;
- `Query[T]`: `from_` is `from`; `Query[list[str]]` collects repeats; without a default it is required;
- `Header[T]`: `content_type` is `Content-Type`;
- `Body[T]`: JSON decoded into `T` (a Struct, or `dict[str, Any]` where the keys are free), `Body[bytes]` as sent,
  `Body[Form]` for an HTML form; empty is `{}` if `T` has no required fields, or the default;
- `BodyStream`, `Requester`, `Requester | None`, `AdminRequester`, `Origin`, `RequestInfo`: by type.

`Annotated[Query[bool], Name("use_state_after", "org.matrix.msc4222.use_state_after")]` gives other names.
Identifier types (`UserId`, `RoomId`, …) are validated; `str` is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NewType, TypedDict, TypeVar

import msgspec
from typing_extensions import Unpack

from homeserver.web.auth import Auth
from homeserver.web.resources import Resource, resource_of
from homeserver.web.signature import In, Marker, Name, Parameter, Signature, read_signature

T = TypeVar("T")
Path = Annotated[T, Marker(In.PATH)]
Query = Annotated[T, Marker(In.QUERY)]
Header = Annotated[T, Marker(In.HEADER)]
Body = Annotated[T, Marker(In.BODY)]

Form = NewType("Form", dict[str, list[str]])
"""The fields of an `application/x-www-form-urlencoded` body."""

Handler = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Handler)


class Options(TypedDict, total=False):
    """What an endpoint may declare besides path and authentication."""

    limit: str | None
    """The class of rate limit, named as in the configuration; None: not limited. Default: `default` by person,
    `federation` by server, nothing where nobody has to prove anything."""
    when_suspended: bool
    """Open to suspended users. Default: reading (GET) is, everything else is not."""
    allow_locked: bool
    """Open to locked users: logging out."""
    allow_expired: bool
    """Open to tokens whose time is over: logging out."""
    named_only: bool
    """Not for an appservice that does not say as which user it acts. spec: application-service-api/#using-sync-and-events"""
    max_body: int
    """Bytes of body accepted. Default: what the configuration says, for clients or for servers."""
    repeated_body: bool
    """Clients send the same body again and again: it is read once. The type has to be one that nobody changes; and no body with
    secrets, for they are remembered."""
    cancel_on_disconnect: bool
    """Whether the handler is cancelled when the client goes away. Default: GET only; a write runs to its end."""
    resource: Resource
    """Which listeners carry it; default from the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A declared endpoint: what contract tests, documents, router and server read."""

    operation_id: str
    """The specification's operation id; of our own endpoints a name in the same style."""
    method: str
    paths: tuple[str, ...]
    """Every path template served, `{v}` written out; the first is the one shown in logs and metrics."""
    auth: Auth
    limit: str | None
    when_suspended: bool
    allow_locked: bool
    allow_expired: bool
    named_only: bool
    max_body: int | None
    """None: what the configuration says."""
    repeated_body: bool
    cancel_on_disconnect: bool
    resource: Resource
    signature: Signature
    handler_name: str
    doc: str

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The handler's parameters in order."""
        return self.signature.parameters

    @property
    def response_type(self) -> Any:
        """What the handler is declared to return."""
        return self.signature.returns


ENDPOINTS_ATTRIBUTE: Final = "__endpoints__"
_LIMIT_UNLESS_TOLD = {
    Auth.USER: "default",
    Auth.GUEST_ALLOWED: "default",
    Auth.APPSERVICE: "default",
    Auth.SERVER: "federation",
}
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"})
# Hydrogen and older bots call r0 for what is v3 now; media was v1 before that.
_VERSIONS = {"/_matrix/client/": ("v3", "r0"), "/_matrix/media/": ("v3", "r0", "v1")}


def endpoint(
    operation_id: str, method: str, path: str | Sequence[str], *, auth: Auth, **options: Unpack[Options]
) -> Callable[[F], F]:
    """Declare the decorated coroutine method as the handler of an operation.

    `path` is a template or several; `{v}` is v3 and r0 (under `/_matrix/media/` v1 too). Decorate twice to serve two
    operations with one method. Raises `TypeError` at import for a declaration that contradicts itself.
    """
    templates = (path,) if isinstance(path, str) else tuple(path)
    paths = tuple(dict.fromkeys(p for template in templates for p in expand(template)))
    if method not in _METHODS or not paths:
        raise TypeError(f"{operation_id}: {method} {path}: no such method, or no path")

    def declare(handler: F) -> F:
        declared = Endpoint(
            operation_id=operation_id,
            method=method,
            paths=paths,
            auth=auth,
            limit=options.get("limit", _LIMIT_UNLESS_TOLD.get(auth)),
            when_suspended=options.get("when_suspended", method in {"GET", "HEAD"}),
            allow_locked=options.get("allow_locked", False),
            allow_expired=options.get("allow_expired", False),
            named_only=options.get("named_only", False),
            max_body=options.get("max_body"),
            repeated_body=options.get("repeated_body", False),
            cancel_on_disconnect=options.get("cancel_on_disconnect", method in {"GET", "HEAD"}),
            resource=options.get("resource") or resource_of(paths[0]),
            signature=read_signature(handler, where=operation_id, paths=paths, auth=auth),
            handler_name=handler.__name__,
            doc=(handler.__doc__ or "").strip(),
        )
        # Decorators apply from the bottom up; the topmost declaration comes first in documents.
        setattr(handler, ENDPOINTS_ATTRIBUTE, (declared, *getattr(handler, ENDPOINTS_ATTRIBUTE, ())))
        return handler

    return declare


def expand(template: str) -> tuple[str, ...]:
    """Write out `{v}`. Raises `TypeError` where a path has no versions to write out, or does not start with `/`."""
    if not template.startswith("/"):
        raise TypeError(f"{template}: a path starts with /")
    if "{v}" not in template:
        return (template,)
    for prefix, versions in _VERSIONS.items():
        if template.startswith(prefix):
            return tuple(template.replace("{v}", version) for version in versions)
    raise TypeError(f"{template}: which versions does {{v}} stand for?")


class EmptyObject(msgspec.Struct):
    """`{}`: the answer of what has nothing to say, or a body of which nothing is read."""


__all__ = [
    "Auth",
    "Body",
    "EmptyObject",
    "Endpoint",
    "Form",
    "Header",
    "Name",
    "Path",
    "Query",
    "endpoint",
    "expand",
]
