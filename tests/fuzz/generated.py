"""Requests drawn from the specification's OpenAPI: what its schemas allow, and what they forbid (schemathesis).

Every second request names real things in its path and body, so that it gets further than "no such room".
"""

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET

from tests.fuzz.attacks import JSON, Attack
from tests.fuzz.cast import Cast
from tests.support.spec import Operation

_LONGEST_POLL = 100  # milliseconds: waiting is not what is tried here


def draw(operation: Operation, cast: Cast, *, examples: int, repeatable: bool) -> Iterator[Attack]:
    """So many requests of either kind, allowed and forbidden."""
    described = _describe(operation)
    for mode in GenerationMode:
        for number, case in enumerate(_cases(described, mode, examples, repeatable=repeatable)):
            attack = _attack(case, cast, f"{mode.value} {number}")
            yield _with_real_names(attack, case, operation, cast) if number % 2 else attack


def _describe(operation: Operation) -> Any:
    """The operation as schemathesis wants it: a document with one path."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Matrix", "version": "1"},
        "paths": {operation.path: {operation.method.lower(): operation.document}},
    }
    return schemathesis.openapi.from_dict(document)[operation.path][operation.method]


def _cases(described: Any, mode: GenerationMode, examples: int, *, repeatable: bool) -> list[Any]:
    drawn: list[Any] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=repeatable,
        suppress_health_check=list(HealthCheck),
    )
    @given(described.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        drawn.append(case)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about examples that schemathesis cannot make, in its own words
        with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
            collect()
    return drawn


def _attack(case: Any, cast: Cast, what: str) -> Attack:
    headers = {str(name): str(value) for name, value in (case.headers or {}).items()}
    authorized = {**_clean(headers), "Authorization": f"Bearer {cast.attacker.token}"}
    body = b"" if case.body is NOT_SET else _bytes(case.body)
    return Attack(
        name=f"{case.operation.label}: {what}",
        method=case.operation.method.upper(),
        target=case.formatted_path + _query(case.query or {}),
        headers={**authorized, **JSON} if body else authorized,
        body=body,
    )


def _with_real_names(attack: Attack, case: Any, operation: Operation, cast: Cast) -> Attack:
    real = {name: cast.parameter(name) for name in ("user_id", "room_id", "event_id", "device_id")}
    body = case.body
    if isinstance(body, dict):
        body = {**body, **{name: value for name, value in real.items() if name in body}}
    target = cast.path(operation.path) + _query(case.query or {})
    return replace(attack, target=target, body=b"" if body is NOT_SET else _bytes(body))


def _query(query: dict[str, Any]) -> str:
    pairs = []
    for name, value in query.items():
        for item in value if isinstance(value, list) else [value]:
            if name == "timeout" and str(item).isdigit():
                item = min(int(item), _LONGEST_POLL)  # noqa: PLW2901  # bounded on purpose
            text = item if isinstance(item, str) else json.dumps(item)
            pairs.append(f"{_quote(name)}={_quote(text)}")
    return "?" + "&".join(pairs) if pairs else ""


def _quote(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def _clean(headers: dict[str, str]) -> dict[str, str]:
    """Without what would break the frame of the message: that is tried in `test_raw_connections`."""
    return {
        name: value
        for name, value in headers.items()
        if not {"\r", "\n"} & set(name + value)
        and name.lower() not in ("content-length", "host", "connection")
    }


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()
