"""An OpenAPI 3.1 document from declared endpoints: for the admin API, the documentation and schemathesis.

Owns the derivation. Nothing is written by hand: names, types, defaults and sentences come from the declarations.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Any, Literal, NewType, get_args, get_origin

import msgspec

from homeserver.web.auth import Auth
from homeserver.web.endpoint import Endpoint, Form
from homeserver.web.response import Html, RawJson, Response, Streamed
from homeserver.web.signature import In, Parameter

_REF = "#/components/schemas/{name}"
_ERROR = {
    "type": "object",
    "required": ["errcode", "error"],
    "properties": {"errcode": {"type": "string"}, "error": {"type": "string"}},
}
_SCHEMES = {
    "accessToken": {"type": "http", "scheme": "bearer"},
    "serverSignature": {"type": "apiKey", "in": "header", "name": "Authorization"},
}


def document(endpoints: Iterable[Endpoint], *, title: str, version: str) -> dict[str, Any]:
    """The document as plain values, ready for JSON or YAML. An endpoint appears under each of its paths."""
    found = list(endpoints)
    schemas, components = _schemas(found)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in found:
        for template in endpoint.paths:
            path = template.replace("{+", "{")  # OpenAPI has no word for a parameter of several segments
            paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": {**components, "Error": _ERROR}, "securitySchemes": _SCHEMES},
    }


def _schemas(endpoints: list[Endpoint]) -> tuple[dict[int, Any], dict[str, Any]]:
    """Schemas of all bodies and answers by the id of their type, and the components they refer to."""
    types = [
        t for endpoint in endpoints for t in (_body_type(endpoint), endpoint.response_type) if _has_schema(t)
    ]
    unique = list({id(t): t for t in types}.values())
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REF)
    return {id(t): schema for t, schema in zip(unique, schemas, strict=True)}, dict(components)


def _operation(endpoint: Endpoint, path: str, schemas: dict[int, Any]) -> dict[str, Any]:
    summary, _, description = endpoint.doc.partition("\n")
    versions = len(endpoint.paths) > 1 and path != endpoint.paths[0]
    operation: dict[str, Any] = {
        "operationId": endpoint.operation_id + (f"_{endpoint.paths.index(path)}" if versions else ""),
        "summary": summary,
        "parameters": [_parameter(p, path) for p in endpoint.parameters if _shown(p, path)],
        "responses": {
            "200": _answer(endpoint.response_type, schemas),
            "default": {
                "description": "An error",
                "content": {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}},
            },
        },
    }
    if description.strip():
        operation["description"] = re.sub(r"\n +", "\n", description).strip()
    if body := _request_body(endpoint, schemas):
        operation["requestBody"] = body
    if endpoint.auth is Auth.SERVER:
        operation["security"] = [{"serverSignature": []}]
    elif endpoint.auth is not Auth.NONE:
        operation["security"] = [{"accessToken": []}, *([{}] if endpoint.auth is Auth.OPTIONAL else [])]
    return operation


def _shown(parameter: Parameter, path: str) -> bool:
    if parameter.source is In.PATH:
        return any(f"{{{name}}}" in path for name in parameter.names)
    return parameter.source in (In.QUERY, In.HEADER)


def _parameter(parameter: Parameter, path: str) -> dict[str, Any]:
    in_path = parameter.source is In.PATH
    name = next(n for n in parameter.names if not in_path or f"{{{n}}}" in path)
    schema = _text_schema(parameter.type)
    if not parameter.required and parameter.default is not None:
        default = parameter.default
        schema["default"] = default.value if isinstance(default, enum.Enum) else default
    return {
        "name": name,
        "in": parameter.source.value,
        "required": in_path or parameter.required,
        "schema": schema,
    }


def _text_schema(kind: Any) -> dict[str, Any]:
    if isinstance(kind, NewType):
        return {**_text_schema(kind.__supertype__), "title": kind.__name__}
    if get_origin(kind) is list:
        return {"type": "array", "items": _text_schema(get_args(kind)[0])}
    if get_origin(kind) is Literal:
        # In an order of our own: Python takes `Literal["f", "b"]` for `Literal["b", "f"]`, whichever it sees first.
        return {"enum": sorted(get_args(kind))}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    return {"type": {bool: "boolean", int: "integer"}.get(kind, "string")}


def _body_type(endpoint: Endpoint) -> Any:
    body = endpoint.signature.of(In.BODY)
    return body.type if body else None


def _request_body(endpoint: Endpoint, schemas: dict[int, Any]) -> dict[str, Any] | None:
    body = endpoint.signature.of(In.BODY) or endpoint.signature.of(In.STREAM)
    if body is None:
        return None
    if body.type is Form:
        content = {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}
    elif id(body.type) in schemas:
        content = {"application/json": {"schema": schemas[id(body.type)]}}
    else:
        content = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
    return {"required": body.required, "content": content}


def _answer(kind: Any, schemas: dict[int, Any]) -> dict[str, Any]:
    if id(kind) in schemas:
        return {"description": "Done", "content": {"application/json": {"schema": schemas[id(kind)]}}}
    if kind is Html:
        return {"description": "A page", "content": {"text/html": {"schema": {"type": "string"}}}}
    if kind is None or kind is type(None):
        return {"description": "Done", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {"description": "Done"}


def _has_schema(kind: Any) -> bool:
    if kind is None or kind is type(None) or kind is bytes or kind is Form:
        return False
    return not (isinstance(kind, type) and issubclass(kind, RawJson | Response | Html | Streamed))
