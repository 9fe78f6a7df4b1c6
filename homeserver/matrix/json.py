"""JSON in and out: one decoder, one encoder, and the splicing of ready-made bytes.

Integers keep every digit (a float would change an event's hash). What is nested too deeply, or is no JSON, is a
`ValueError`, never a crash. spec: client-server-api/#api-standards
"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.matrix.errors import BadJson, NotJson

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def loads(data: bytes | str) -> Any:
    """Decode UTF-8 JSON text. Of equal keys in an object the last one counts.

    Raises:
        ValueError: not JSON: malformed, trailing text, NaN, a number out of any range, a lone surrogate, bytes that
            are no UTF-8, or nested deeper than the interpreter's stack allows.
    """
    try:
        return _decode(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def loads_object(data: bytes | str) -> dict[str, Any]:
    """Decode what must be a JSON object, as a request's body.

    Raises:
        NotJson: it is not JSON at all (empty bytes included).
        BadJson: it is JSON of another shape.
    """
    try:
        value = loads(data)
    except ValueError as error:
        raise NotJson(f"Not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadJson("Not a JSON object")
    return value


def dumps(value: Any) -> bytes:
    """Encode compactly, keys in their own order. `msgspec.Raw` values are copied as they are.

    Raises:
        ValueError: a lone surrogate in a string, or nested too deeply.
    """
    try:
        return _encode(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def object_with(base: bytes, members: bytes) -> bytes:
    """The JSON object `base` with further members before its final brace.

    `members` is written as inside an object (`b'"age":5,"x":{}'`), without braces; empty adds nothing. Keys must not
    be in `base` already. `base` ends in its brace, without white space after it.
    """
    if not members:
        return base
    if len(base) == 2:
        return b"{" + members + b"}"
    return base[:-1] + b"," + members + b"}"
