"""From the bytes of a body to the type a handler declares, with an error that names the place of a mistake.

spec: client-server-api/#common-error-codes
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET, inspect

from homeserver.matrix.canonical_json import nested_deeper
from homeserver.matrix.errors import BadJson, InvalidParam, MatrixError, MissingParam, NotJson
from homeserver.web import limits

Decode = Callable[[bytes], Any]

REMEMBERED: Final = 512
REMEMBERED_BYTES: Final = 4_096
"""Of a body that is remembered; what was read of it takes some ten times as much."""
_NULL = b"\\u0000"
"""The one way to write U+0000 in JSON."""


def json_decoder(kind: Any) -> Decode:
    """A function from a body's bytes to `kind`.

    It raises `NotJson` (no JSON, no UTF-8), `MissingParam`, `InvalidParam` (a value outside its enumeration or
    range, U+0000 in a declared text) or `BadJson` (any other wrong shape, more values than `limits.MAX_VALUES`, nesting
    beyond `limits.MAX_DEPTH`), each with the JSON path.
    """
    decode = msgspec.json.Decoder(kind).decode
    shape = inspect.type_info(kind)

    def read(raw: bytes) -> Any:
        if len(raw) > limits.COUNTED_FROM:
            check_work(raw)
        try:
            value = decode(raw)
        except msgspec.ValidationError as error:
            raise explain(str(error)) from None
        except RecursionError:
            raise _too_deep() from None
        except ValueError as error:  # DecodeError, UnicodeDecodeError, an integer of too many digits
            raise NotJson(f"Content not JSON: {_reason(error)}") from None
        if _NULL in raw and has_null(value, shape):
            raise InvalidParam("The body has a text with U+0000 in it")
        if nested_deeper(raw, limits.MAX_DEPTH + 1):  # the body itself is no level
            raise _too_deep()
        return value

    return read


def remembering(read: Decode) -> Decode:
    """The same, that reads what it has read lately once: of small bodies, and as many as `REMEMBERED`. Whoever gets the value may
    not change it.
    """
    remembered = lru_cache(maxsize=REMEMBERED)(read)

    def read_once(raw: bytes) -> Any:
        return remembered(raw) if len(raw) <= REMEMBERED_BYTES else read(raw)

    return read_once


def has_null(value: Any, shape: inspect.Type) -> bool:
    """Whether a text has U+0000 in it, where the declared `shape` has a text: names and labels, which are kept in columns
    that cannot hold it. What is declared as `Any` (the content of events, say) is the client's own and may.
    """
    return _any_null([value], shape)


def _any_null(values: Collection[Any], shape: inspect.Type) -> bool:
    """Of all values at one place of a shape together: a body may have a hundred thousand."""
    if not values:
        return False
    if isinstance(shape, inspect.StrType):
        return "\0" in "".join(values)
    if isinstance(shape, inspect.ListType):
        return _any_null(list(chain.from_iterable(values)), shape.item_type)
    if isinstance(shape, inspect.StructType):
        return any(
            _any_null(
                [value for value in map(attrgetter(each.name), values) if value is not UNSET], each.type
            )
            for each in shape.fields
            if not isinstance(each.type, inspect.AnyType)
        )
    if isinstance(shape, inspect.UnionType):
        return any(
            _any_null([value for value in values if isinstance(value, kind)], each)
            for each in shape.types
            if (kind := _python_type(each)) is not None
        )
    if isinstance(shape, inspect.DictType) and not isinstance(shape.value_type, inspect.AnyType):
        inner = chain.from_iterable(each.values() for each in values)
        return _any_null(list(chain.from_iterable(values)), shape.key_type) or _any_null(
            list(inner), shape.value_type
        )
    return False


def _python_type(shape: inspect.Type) -> type | None:
    """What values of a shape are, if they can have a text in them."""
    if isinstance(shape, inspect.StructType):
        return shape.cls
    return {inspect.StrType: str, inspect.ListType: list, inspect.DictType: dict}.get(type(shape))


def check_work(raw: bytes) -> None:
    """Refuse what would take too long to read: a decoder cannot be interrupted, and holds up everybody, in a thread too.

    What separates values inside strings is counted as well: those are few in what is not meant for this. Raises `BadJson`
    beyond `limits.MAX_VALUES`.
    """
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > limits.MAX_VALUES:
        raise BadJson(f"The body holds more than {limits.MAX_VALUES} values")


def accepts_nothing(kind: Any) -> bool:
    """Whether `{}` is a valid value: then an empty body is, too. spec: API Standards (CHECKLIST API-05)"""
    if kind is dict or getattr(kind, "__origin__", None) is dict:
        return False
    try:
        msgspec.json.decode(b"{}", type=kind)
    except (msgspec.ValidationError, TypeError):
        return False
    return True


def explain(message: str) -> MatrixError:
    """The sentence of msgspec, which ends in the place (`… - at `$.rooms[0]``), under the errcode that fits."""
    what, _, where = message.partition(" - at ")
    place = where.strip("`").removeprefix("$.") or "the body"
    if what.startswith("Object missing required field"):
        field = what.split("`")[1]
        full = f"{place}.{field}" if where else field
        return MissingParam(f"Missing required key: {full}")
    if what.startswith(("Invalid enum value", "Invalid value")) or _is_range(what):
        return InvalidParam(f"{place}: {what}")
    return BadJson(f"{place}: {what}")


def _is_range(what: str) -> bool:
    return any(sign in what for sign in (" >= ", " <= ", " > ", " < ", "of length", "matching regex"))


def _reason(error: Exception) -> str:
    # Positions help, content does not belong into answers and logs.
    text = str(error)
    return text if isinstance(error, msgspec.DecodeError) and len(text) < 200 else "not valid UTF-8 JSON"


def _too_deep() -> BadJson:
    return BadJson(f"The body nests more than {limits.MAX_DEPTH} levels deep")
