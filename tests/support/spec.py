"""The contract: what the specification's own schemas say about a response, and whether this one keeps it.

`load()` gives the `Spec`; `Spec.problems(exchange)` lists in words what is wrong with one answer of a server.
Schemas are compiled when first needed. Rules that stand only in the specification's prose are in `spec_rules`.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

from tests.support import spec_rules
from tests.support.spec_examples import compose
from tests.support.spec_files import api_documents, inline, schema_only, spec_dir
from tests.support.spec_routes import RouteTable

METHODS = frozenset({"get", "put", "post", "delete", "head", "options", "patch"})
JSON = "application/json"
_MAX_PROBLEMS = 8
_MAX_SHOWN = 300


@dataclass(frozen=True)
class Exchange:
    """One request and its answer, as any HTTP client saw them. `path` is percent-encoded and without the query."""

    method: str
    path: str
    status: int
    body: bytes
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)  # of the response; names in lower case

    @property
    def content_type(self) -> str:
        """The media type alone, without its parameters; empty when the response names none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as values; raises spec_rules.NotJSONError."""
        return spec_rules.parse_json(self.body)


@dataclass(frozen=True)
class Operation:
    """One operation of the specification: where it is documented, and what it answers per status."""

    api: str
    method: str
    path: str
    operation_id: str
    source: Path
    raw: dict[str, Any] = field(repr=False, hash=False, compare=False)

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        """The OpenAPI operation object with every `$ref` written out."""
        document = inline(self.raw, self.source)
        assert isinstance(document, dict)
        return document

    @property
    def responses(self) -> dict[str, Any]:
        """Status code -> OpenAPI response object."""
        responses = self.document["responses"]
        assert isinstance(responses, dict)
        return responses

    def content_types(self, status: int) -> set[str]:
        """The media types documented for that status."""
        return set((self.responses.get(str(status)) or {}).get("content") or {})

    @functools.cache  # noqa: B019  # operations live as long as the process
    def validator(self, status: int | str) -> jsonschema_rs.Draft202012Validator | None:
        """The compiled JSON schema of that response (of the request body for status "request"); None if there is none."""
        schema = self._json_content(status).get("schema")
        if schema is None:
            return None
        amended = spec_rules.AMENDMENTS.get((self.operation_id, str(status)), dict)(schema)
        return jsonschema_rs.Draft202012Validator(schema_only(amended))

    def examples(self, status: int | str) -> list[Any]:
        """The bodies the specification gives as examples for that status (or for "request")."""
        content = self._json_content(status)
        schema = content.get("schema") or {}
        named = [
            example["value"] for example in (content.get("examples") or {}).values() if "value" in example
        ]
        plain = [holder["example"] for holder in (content, schema) if "example" in holder]
        return [*named, *plain, *(schema.get("examples") or ())]

    def sample_request(self) -> Any:
        """A proper request body: the specification's first example, else one put together from its schema; {} if none."""
        shown = self.examples("request")
        return shown[0] if shown else compose(self._json_content("request").get("schema"))

    def required(self, status: int | str) -> list[str]:
        """The fields a body of that status must have, as its schema says at its top level."""
        return list((self._json_content(status).get("schema") or {}).get("required") or ())

    def properties(self, status: int | str) -> list[str]:
        """The fields a body of that status may have at its top level, as far as its schema names them plainly."""
        return list((self._json_content(status).get("schema") or {}).get("properties") or ())

    def _json_content(self, status: int | str) -> dict[str, Any]:
        part = self.document.get("requestBody") if status == "request" else self.responses.get(str(status))
        return dict(((part or {}).get("content") or {}).get(JSON) or {})


class Spec:
    """All operations of the specification, found by method and path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.operations = tuple(_operations(folder))
        self._routes = RouteTable(
            (operation.method, operation.path, operation) for operation in self.operations
        )

    def find(self, method: str, path: str) -> list[Operation]:
        """The operations this request can be; [] for what the specification does not know."""
        return self._routes.find(method, path)

    def problems(self, exchange: Exchange) -> list[str]:
        """What is wrong with this answer, in words; empty when it keeps the contract."""
        operations = self.find(exchange.method, exchange.path)
        found = spec_rules.broken(exchange)
        # MSC4140: what is sent later has a `delay_id` in place of an event id.
        if operations and "org.matrix.msc4140.delay" not in exchange.query:
            # one path documented twice (GET /events): the answer has to fit one of them
            readings = [_schema_problems(operation, exchange) for operation in operations]
            fewest: list[str] = min(readings, key=len)
            found += fewest
        return found


@functools.cache
def load() -> Spec | None:
    """The specification; None where its data is absent."""
    folder = spec_dir()
    return Spec(folder) if folder else None


def validate_response(
    method: str, path: str, status: int, body: bytes, *, headers: Mapping[str, str] | None = None
) -> list[str]:
    """`Spec.problems` for callers with loose parts; without the specification only the prose rules are checked."""
    raw_path, _, _ = path.partition("?")
    return problems_of(Exchange(method, raw_path, status, body, headers=headers or {"content-type": JSON}))


def problems_of(exchange: Exchange) -> list[str]:
    """What is wrong with this answer, whether or not the specification's data is here."""
    spec = load()
    return spec.problems(exchange) if spec else spec_rules.broken(exchange)


def _operations(folder: Path) -> Iterator[Operation]:
    for api, source, document in api_documents(folder):
        base = document["servers"][0]["variables"].get("basePath", {}).get("default", "").rstrip("/")
        for path, item in document["paths"].items():
            # two documents describe the same path and tell them apart by a space at the end
            template = base + path.strip()
            for method in METHODS & item.keys():
                raw = item[method]
                yield Operation(api, method.upper(), template, raw["operationId"], source, raw)


def _schema_problems(operation: Operation, exchange: Exchange) -> list[str]:
    where = f"{operation.operation_id} ({operation.source.parent.name}/{operation.source.name})"
    documented = operation.content_types(exchange.status)
    if exchange.status in spec_rules.HTTPS_OWN.get(operation.operation_id, ()):
        return []
    if exchange.status < 400 and str(exchange.status) not in operation.responses:
        return [
            f"{where}: status {exchange.status} is not documented, only {', '.join(map(str, operation.responses))}"
        ]
    if not documented or not exchange.body:
        return []
    if exchange.content_type != JSON:
        return (
            [f"{where}: answers {exchange.content_type or 'no content type'}, not JSON"]
            if documented == {JSON}
            else []
        )
    validator = operation.validator(exchange.status)
    if validator is None:
        return []
    try:
        body = exchange.json()
    except spec_rules.NotJSONError:
        return []  # said by spec_rules
    if exchange.status >= 400 and not _is_documented_error(operation, exchange.status, body):
        return []
    errors = list(validator.iter_errors(body))
    told = [_tell(error) for error in errors[:_MAX_PROBLEMS]]
    more = [f"... and {len(errors) - len(told)} more"] if len(errors) > len(told) else []
    return [f"{where}: {line}" for line in told + more]


def _is_documented_error(operation: Operation, status: int, body: Any) -> bool:
    """Whether the error schema documented for this status speaks of this error.

    Several errors share a status: a 401 that asks for user-interactive authentication has `flows`, one that refuses the
    token has none; `M_INCOMPATIBLE_ROOM_VERSION` has fields that other 400s lack. An error nobody documented only has to be
    an error (API-01, in `spec_rules`).
    """
    if not isinstance(body, dict):
        return True
    if "flows" in operation.required(status):
        return "flows" in body
    codes = {example.get("errcode") for example in operation.examples(status) if isinstance(example, dict)}
    return not codes or body.get("errcode") in codes


def _tell(error: Any) -> str:
    at = "/" + "/".join(str(step) for step in error.instance_path)
    message = str(error.message)
    return f"at {at}: {message if len(message) <= _MAX_SHOWN else message[:_MAX_SHOWN] + '…'}"
