"""Reading a handler's signature: which parameter comes from where, under which name, converted how.

Owns the derivation only; taking the values out of a request is `binding.py`.
"""

from __future__ import annotations

import enum
import functools
import inspect
import operator
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from homeserver.web.auth import AdminRequester, Auth, Origin, Requester
from homeserver.web.request import RequestInfo
from homeserver.web.stream import BodyStream

MISSING: Any = inspect.Parameter.empty
"""The default of a parameter that must be sent."""


class In(enum.Enum):
    """Where a parameter comes from."""

    PATH = "path"
    QUERY = "query"
    HEADER = "header"
    BODY = "body"
    STREAM = "stream"
    REQUESTER = "requester"
    ORIGIN = "origin"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Marker:
    """What `Path[…]`, `Query[…]`, `Header[…]` and `Body[…]` attach to a type."""

    source: In


class Name:
    """Other names for a parameter on the wire; the first that was sent counts, the first listed is documented."""

    __slots__ = ("names",)

    def __init__(self, *names: str) -> None:
        self.names = names


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a handler."""

    name: str
    """In Python."""
    source: In
    names: tuple[str, ...]
    """On the wire; empty where it has none."""
    type: Any
    """Without the marker and without `| None`."""
    default: Any
    optional: bool
    """`| None` was declared."""

    @property
    def required(self) -> bool:
        """Whether a request without it is refused."""
        return self.default is MISSING


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters in order and the return type."""

    parameters: tuple[Parameter, ...]
    returns: Any

    def of(self, source: In) -> Parameter | None:
        """The first parameter from there."""
        return next((p for p in self.parameters if p.source is source), None)


_BY_TYPE: dict[Any, In] = {
    Requester: In.REQUESTER,
    AdminRequester: In.REQUESTER,
    Origin: In.ORIGIN,
    RequestInfo: In.INFO,
    BodyStream: In.STREAM,
}
_TEMPLATE_NAME = re.compile(r"\{\+?(\w+)\}")


def read_signature(handler: Callable[..., Any], *, where: str, paths: Sequence[str], auth: Auth) -> Signature:
    """Derive it once, at import. Raises `TypeError` naming `where` for what cannot be derived or contradicts itself."""
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"{where}: a handler is a coroutine method")
    try:
        hints = typing.get_type_hints(handler, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{where}: declare the types above the handler and import them at run time: {error}"
        ) from error
    templates = [tuple(_TEMPLATE_NAME.findall(path)) for path in paths]
    parameters = tuple(
        _parameter(p, hints.get(p.name), where, templates)
        for p in list(inspect.signature(handler).parameters.values())[1:]
    )
    signature = Signature(parameters=parameters, returns=hints.get("return"))
    if "return" not in hints:
        raise TypeError(f"{where}: say what the handler returns")
    _check_paths(signature, where, templates)
    _check_proofs(signature, where, auth)
    return signature


def snake(name: str) -> str:
    """`roomId` as `room_id`."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _parameter(
    parameter: inspect.Parameter, hint: Any, where: str, templates: list[tuple[str, ...]]
) -> Parameter:
    extras: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        extras = tuple(rest)
    marker = next((e for e in extras if isinstance(e, Marker)), None)
    renamed = next((e for e in extras if isinstance(e, Name)), None)
    kind, optional = _without_none(hint)
    source = marker.source if marker else _BY_TYPE.get(kind)
    if source is None:
        raise TypeError(f"{where}: {parameter.name}: where does it come from? (Path, Query, Header, Body, …)")
    names = renamed.names if renamed else _wire_names(parameter.name, source, templates)
    return Parameter(parameter.name, source, names, kind, parameter.default, optional)


def _wire_names(name: str, source: In, templates: list[tuple[str, ...]]) -> tuple[str, ...]:
    plain = name.removesuffix("_")
    if source is In.QUERY:
        return (plain,)
    if source is In.HEADER:
        return (plain.replace("_", "-").title(),)
    if source is In.PATH:
        return tuple(dict.fromkeys(t for template in templates for t in template if plain in (t, snake(t))))
    return ()


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
        rest = tuple(a for a in get_args(hint) if a is not NoneType)
        return functools.reduce(operator.or_, rest), True
    return hint, False


def _check_paths(signature: Signature, where: str, templates: list[tuple[str, ...]]) -> None:
    for template in templates:
        if len(set(template)) != len(template):
            raise TypeError(f"{where}: a name stands twice in a path")
        taken = {n for p in signature.parameters if p.source is In.PATH for n in p.names}
        if unknown := set(template) - taken:
            raise TypeError(f"{where}: nothing takes {sorted(unknown)} of the path")
    for parameter in signature.parameters:
        in_all = all(set(parameter.names) & set(template) for template in templates)
        if parameter.source is In.PATH and parameter.required and not in_all:
            raise TypeError(f"{where}: {parameter.name} is not in every path, and has no default")


def _check_proofs(signature: Signature, where: str, auth: Auth) -> None:
    requester, origin = signature.of(In.REQUESTER), signature.of(In.ORIGIN)
    if requester and auth in (Auth.NONE, Auth.SERVER):
        raise TypeError(f"{where}: {auth} gives no requester")
    if requester and requester.optional != (auth is Auth.OPTIONAL):
        raise TypeError(f"{where}: `Requester | None` belongs to Auth.OPTIONAL and to it alone")
    if requester and requester.type is AdminRequester and auth is not Auth.ADMIN:
        raise TypeError(f"{where}: only Auth.ADMIN proves an AdminRequester")
    if origin and auth is not Auth.SERVER:
        raise TypeError(f"{where}: only Auth.SERVER proves an Origin")
    if sum(p.source in (In.BODY, In.STREAM) for p in signature.parameters) > 1:
        raise TypeError(f"{where}: a request has one body")
    if auth is Auth.SERVER and signature.of(In.STREAM):
        raise TypeError(f"{where}: a signature covers the whole body, it cannot be streamed")
