"""Every way in which one request to one endpoint is made wrong in one place: the sweep that leaves nothing to chance.

An attack is a request in bytes with a name that says what is wrong with it. Whole bodies, values inside a body, path and
query parameters, and headers come from `hostile`; everything else in the request is proper (`cast`).
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import msgspec

from homeserver.web.endpoint import Endpoint
from homeserver.web.signature import In
from tests.fuzz import hostile
from tests.fuzz.cast import Cast
from tests.support.spec import load

JSON = {"Content-Type": "application/json"}
_DEEPEST = 4  # of the places inside an example body that are tried one by one


@dataclass(frozen=True)
class Attack:
    """One request: `target` is path and query as they travel. `name` says which endpoint and what is wrong."""

    name: str
    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def attacks(endpoint: Endpoint, cast: Cast) -> Iterator[Attack]:
    """All attacks on one endpoint."""
    name = f"{endpoint.method} {endpoint.paths[0]}"
    for what, target, headers, body in _variations(endpoint, cast):
        authorized = {"Authorization": f"Bearer {cast.attacker.token}", **headers}
        yield Attack(f"{name}: {what}", endpoint.method, target, authorized, body)


def share(found: Iterator[Attack], *, one_of: int) -> Iterator[Attack]:
    """A fixed part of the attacks, one of so many, spread over all kinds."""
    return (attack for attack in found if crc32(attack.name.encode()) % one_of == 0)


_Variation = tuple[str, str, dict[str, str], bytes]


def _variations(endpoint: Endpoint, cast: Cast) -> Iterator[_Variation]:
    proper = encode(cast.body(endpoint)) if takes_body(endpoint) else b""
    kind = JSON if takes_body(endpoint) else {}
    yield "nothing wrong", cast.path(endpoint.paths[0]), kind, proper
    yield from _wrong_targets(endpoint, cast, kind, proper)
    for what, headers in hostile.HEADERS.items():
        yield f"header: {what}", cast.path(endpoint.paths[0]), {**kind, **headers}, proper
    if takes_body(endpoint):
        yield from _wrong_bodies(endpoint, cast)
    else:
        yield "a body nobody asked for", cast.path(endpoint.paths[0]), JSON, b'{"a": [}'


def _wrong_targets(
    endpoint: Endpoint, cast: Cast, kind: dict[str, str], proper: bytes
) -> Iterator[_Variation]:
    for parameter in _path_parameters(endpoint.paths[0]):
        for what, value in hostile.PATHS.items():
            yield f"{parameter} is {what}", cast.path(endpoint.paths[0], parameter, value), kind, proper
    for parameter in query_parameters(endpoint):
        for what, value in hostile.QUERIES.items():
            target = f"{cast.path(endpoint.paths[0])}?{parameter}={value}"
            yield f"?{parameter} is {what}", target, kind, proper
        good = cast.parameter(parameter)
        for what, query in {
            "twice": f"{parameter}={good}&{parameter}=other",
            "without a value": parameter,
            "a list": f"{parameter}[]={good}",
            "many times": "&".join([f"{parameter}=x"] * 500),
        }.items():
            yield f"?{parameter} {what}", f"{cast.path(endpoint.paths[0])}?{query}", kind, proper


def _wrong_bodies(endpoint: Endpoint, cast: Cast) -> Iterator[_Variation]:
    for what, body in hostile.BODIES.items():
        yield f"body: {what}", cast.path(endpoint.paths[0]), JSON, body
    proper = cast.body(endpoint)
    places = dict.fromkeys([*_places(proper), *((name,) for name in body_fields(endpoint))])
    for place in places:
        for what, value in hostile.VALUES.items():
            body = encode(_replaced(proper, place, value))
            yield f"body.{'.'.join(map(str, place))} is {what}", cast.path(endpoint.paths[0]), JSON, body
    for name in proper:
        rest = {key: value for key, value in proper.items() if key != name}
        yield f"body without {name}", cast.path(endpoint.paths[0]), JSON, encode(rest)


def encode(value: Any) -> bytes:
    """JSON as an attacker writes it: what UTF-8 cannot carry travels as an escape."""
    return json.dumps(value).encode()


def takes_body(endpoint: Endpoint) -> bool:
    """Whether the endpoint reads JSON."""
    body = endpoint.signature.of(In.BODY)
    return body is not None and body.type is not bytes


def query_parameters(endpoint: Endpoint) -> list[str]:
    """The names it reads from the query, as declared and as the specification has them."""
    names = [
        name for parameter in endpoint.parameters if parameter.source is In.QUERY for name in parameter.names
    ]
    return list(
        dict.fromkeys([*names, *(one["name"] for one in _specified(endpoint) if one.get("in") == "query")])
    )


def body_fields(endpoint: Endpoint) -> list[str]:
    """The names at the top level of its body, as declared and as the specification has them."""
    body = endpoint.signature.of(In.BODY)
    declared: list[str] = []
    if body is not None and isinstance(body.type, type) and issubclass(body.type, msgspec.Struct):
        declared = [one.encode_name for one in msgspec.structs.fields(body.type)]
    spec = load()
    found = spec.find(endpoint.method, _sample(endpoint)) if spec else []
    specified = found[0].properties("request") if found else []
    return list(dict.fromkeys([*declared, *specified]))


def _specified(endpoint: Endpoint) -> list[dict[str, Any]]:
    spec = load()
    found = spec.find(endpoint.method, _sample(endpoint)) if spec else []
    return list(found[0].document.get("parameters") or ()) if found else []


def _sample(endpoint: Endpoint) -> str:
    return "/".join("x" if part.startswith("{") else part for part in endpoint.paths[0].split("/"))


def _path_parameters(template: str) -> list[str]:
    return [part.strip("{}") for part in template.split("/") if part.startswith("{")]


def _places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if place:
        yield place
    if len(place) < _DEEPEST:
        inner = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, child in inner:
            yield from _places(child, (*place, key))


def _replaced(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    parent = changed
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = new
    return changed
