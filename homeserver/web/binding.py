"""From a request to the arguments of its handler, by a plan that is made once per endpoint.

Owns the plan. The reading of text is `convert.py`, of JSON `body.py`, of bytes from the socket `stream.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from homeserver.matrix.errors import InvalidParam, MissingParam, NotJson
from homeserver.web import limits
from homeserver.web.auth import Auth
from homeserver.web.body import Decode, accepts_nothing, json_decoder, remembering
from homeserver.web.convert import Convert, converter
from homeserver.web.endpoint import Endpoint, Form
from homeserver.web.request import RequestInfo, parse_query
from homeserver.web.signature import In, Parameter
from homeserver.web.stream import BodyStream, ClientTimeouts

Take = Callable[[RequestInfo], Any]


class Reads(enum.Enum):
    """What an endpoint does with the body."""

    NOTHING = enum.auto()
    ALL = enum.auto()
    STREAM = enum.auto()


@dataclass(frozen=True, slots=True)
class Bound:
    """An endpoint with its handler and the plan for its arguments."""

    endpoint: Endpoint
    handler: Callable[..., Awaitable[Any]]
    takes: tuple[Take, ...]
    """One per parameter, in order."""
    reads: Reads
    max_body: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much and how slowly a request may be sent, where its endpoint does not say."""

    client_body: int = limits.JSON_BODY
    """Bytes."""
    server_body: int = limits.LARGE_JSON_BODY
    """Bytes, from other homeservers."""
    timeouts: ClientTimeouts = field(default_factory=ClientTimeouts)

    def body_of(self, endpoint: Endpoint) -> int:
        """Bytes of body accepted."""
        if endpoint.max_body is not None:
            return endpoint.max_body
        return self.server_body if endpoint.auth is Auth.SERVER else self.client_body


def bind(endpoint: Endpoint, api: object, bounds: Bounds) -> Bound:
    """Plan the arguments of an api object's handler. Raises `TypeError` for a type that cannot be read."""
    max_body = bounds.body_of(endpoint)
    if (body := endpoint.signature.of(In.BODY)) is not None and body.type is Form:
        max_body = min(max_body, limits.FORM_BODY)
    try:
        takes = tuple(_take(endpoint, p, max_body, bounds.timeouts) for p in endpoint.parameters)
    except TypeError as error:
        raise TypeError(f"{endpoint.operation_id}: {error}") from error
    if endpoint.signature.of(In.STREAM):
        reads = Reads.STREAM
    elif endpoint.signature.of(In.BODY) or endpoint.signature.of(In.ORIGIN):
        reads = Reads.ALL
    else:
        reads = Reads.NOTHING
    return Bound(endpoint, getattr(api, endpoint.handler_name), takes, reads, max_body)


def _take(endpoint: Endpoint, parameter: Parameter, max_body: int, timeouts: ClientTimeouts) -> Take:
    if parameter.source is In.PATH:
        return _from_path(parameter)
    if parameter.source is In.QUERY:
        return _from_query(parameter)
    if parameter.source is In.HEADER:
        return _from_header(parameter)
    if parameter.source is In.BODY:
        return _from_body(parameter, repeated=endpoint.repeated_body)
    if parameter.source is In.STREAM:
        return lambda info: BodyStream(info, max_body, timeouts)
    if parameter.source is In.REQUESTER:
        return lambda info: info.requester
    if parameter.source is In.ORIGIN:
        return lambda info: info.origin
    return lambda info: info


def _from_path(parameter: Parameter) -> Take:
    convert: Convert = converter(parameter.type)
    names, default, plain = parameter.names, parameter.default, parameter.type is str

    def take(info: RequestInfo) -> Any:
        values = info.path_values
        for name in names:
            if name in values:
                return values[name] if plain else convert(values[name], name)
        return default

    return take


def _from_query(parameter: Parameter) -> Take:
    names, default, first = parameter.names, parameter.default, parameter.names[0]
    required = parameter.required
    many = get_origin(parameter.type) is list
    convert = converter(get_args(parameter.type)[0] if many else parameter.type)
    if len(names) == 1 and not many and not required:

        def take_one(info: RequestInfo) -> Any:
            values = info.query.get(first)
            return convert(values[0], first) if values else default

        return take_one

    def take(info: RequestInfo) -> Any:
        query = info.query
        for name in names:
            if values := query.get(name):
                return [convert(v, name) for v in values] if many else convert(values[0], name)
        if required:
            raise MissingParam(f"Missing query parameter: {first}")
        return default

    return take


def _from_header(parameter: Parameter) -> Take:
    names, default, first = parameter.names, parameter.default, parameter.names[0]
    convert, required = converter(parameter.type), parameter.required

    def take(info: RequestInfo) -> Any:
        for name in names:
            if (value := info.headers.get(name)) is not None:
                if not value.isascii():
                    raise InvalidParam(f"{name}: not ASCII")
                return convert(value, name)
        if required:
            raise MissingParam(f"Missing header: {first}")
        return default

    return take


def _from_body(parameter: Parameter, *, repeated: bool) -> Take:
    kind, default = parameter.type, parameter.default
    if kind is bytes:
        return lambda info: info.body
    if kind is Form:
        return lambda info: _form(info.body)
    decode: Decode = remembering(json_decoder(kind)) if repeated else json_decoder(kind)
    if parameter.required and accepts_nothing(kind):
        return lambda info: decode(info.body or b"{}")

    def take(info: RequestInfo) -> Any:
        if info.body:
            return decode(info.body)
        if parameter.required:
            raise NotJson("Content not JSON: the body is empty")
        return default

    return take


def _form(body: bytes) -> dict[str, list[str]]:
    try:
        return parse_query(body.decode())
    except UnicodeDecodeError:
        raise InvalidParam("The form is not UTF-8") from None
