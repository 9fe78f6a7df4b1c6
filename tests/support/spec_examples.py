"""A plausible value for a schema, put together from the examples of its parts: for bodies the specification shows none of."""

from typing import Any

_DEEPEST = 6
_PLAIN: dict[str, Any] = {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None}


def compose(schema: Any, depth: int = 0) -> Any:
    """A value of the shape the (inlined) schema describes; every named property is there.

    Nothing promises that it satisfies the schema: patterns and the keys of free maps are not looked at.
    """
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return {}
    for given in ("example", "const", "default"):
        if given in schema:
            return schema[given]
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("oneOf", "anyOf"):
        if schema.get(choice) and "properties" not in schema:
            return compose(schema[choice][0], depth + 1)
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "array":
        return [compose(schema.get("items"), depth + 1)]
    return _PLAIN[kind] if kind in _PLAIN else _object(schema, depth)


def _object(schema: dict[str, Any], depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for part in schema.get("allOf") or ():
        inherited = compose(part, depth)
        value |= inherited if isinstance(inherited, dict) else {}
    for name, child in (schema.get("properties") or {}).items():
        value[name] = compose(child, depth + 1)
    free = schema.get("additionalProperties")
    free = (
        free if isinstance(free, dict) else next(iter((schema.get("patternProperties") or {}).values()), None)
    )
    if isinstance(free, dict) and not value:
        value["key"] = compose(free, depth + 1)
    return value
