"""Canonical JSON: the one spelling of a document that is hashed and signed.

spec: appendices/#canonical-json (CHECKLIST CRY-01, API-22, EVT-05)
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final

import canonicaljson
import msgspec

from homeserver.matrix.errors import BadJson

MAX_INTEGER: Final = 2**53 - 1
"""spec: appendices/#canonical-json: integers lie within ±(2^53-1)."""
MAX_DEPTH: Final = 500
"""How deeply a document may be nested: half of the interpreter's stack. The specification names no limit."""

_BRACKETS: Final = bytes(1 if byte in b"[{" else 255 if byte in b"]}" else 0 for byte in range(256))
"""What an opening bracket adds to the depth, and a closing one, as signed bytes."""
_OTHERS: Final = bytes(byte for byte in range(256) if not _BRACKETS[byte] and byte != ord('"'))


def _whole(literal: str) -> int | float:
    number = float(literal)
    return int(number) if number.is_integer() else number


_decode_whole = msgspec.json.Decoder(float_hook=_whole).decode
_sorted = msgspec.json.Encoder(order="sorted").encode


def encode(value: Any) -> bytes:
    """The canonical encoding of decoded JSON: keys sorted by code point, no white space, UTF-8.

    Floats, which canonical JSON does not have but room versions 1 to 5 must hash all the same, are written as
    Python's `json` writes them: that is what every other server of such a room computed.

    Raises:
        ValueError: what JSON cannot express (NaN, lone surrogates, keys that are no strings) or nested too deeply.
    """
    if _has_float(value):
        return _encode_with_floats(value)
    return encode_strict(value)


def encode_strict(value: Any) -> bytes:
    """As `encode`, for what is known to contain no float (checked by `check_strict`, or made here): 3 times as fast."""
    try:
        return _sorted(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except TypeError as error:
        raise ValueError(str(error)) from None


def encode_checked(value: Any, *, where: str = "", max_depth: int = MAX_DEPTH) -> bytes:
    """The canonical encoding of what room versions from 6 on accept, and nothing else.

    Raises:
        BadJson: a float, an integer beyond ±(2^53-1), a lone surrogate, or nesting deeper than `max_depth`.
            The message names the place, as `where.key[index]`.
    """
    # spec: rooms/v6/#canonical-json
    if _is_strict(value, max_depth):
        try:
            return _sorted(value)
        except (UnicodeEncodeError, RecursionError, TypeError):
            pass  # the search below says what it was
    problem, path = _find_mistake(value, max_depth)
    place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    place = (where + place if where else place.removeprefix(".")) or "value"
    raise BadJson(f"{_printable(place)}: {problem}")


def check_strict(value: Any, *, where: str = "", max_depth: int = MAX_DEPTH) -> None:
    """Check that a decoded value can be written in canonical JSON. Raises `BadJson`, as `encode_checked` does."""
    encode_checked(value, where=where, max_depth=max_depth)


def of_text(text: bytes | str) -> bytes:
    """The canonical form of JSON text, as the specification's own examples show it: `1e10` becomes `10000000000`.

    Nothing an event goes through: there an exponent makes a float, since the grammar forbids it.

    Raises:
        ValueError: not JSON, or a number that is no integer within ±(2^53-1).
    """
    try:
        value = _decode_whole(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None
    try:
        check_strict(value)
    except BadJson as error:
        raise ValueError(error.error) from None
    return encode_strict(value)


def nested_deeper(text: bytes, limit: int) -> bool:
    """Whether JSON text is nested deeper than `limit`; nearly always one look at how many brackets it has. At the worst some
    10 ms for a megabyte.
    """
    if text.count(b"{") + text.count(b"[") <= limit:
        return False
    if b"\\" in text:  # in strings alone; a run of them is read in pairs
        text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    text = text.translate(None, _OTHERS).replace(b'""', b"")
    if b'"' in text:
        text = b"".join(text.split(b'"')[::2])
    text = text.translate(_BRACKETS)
    for _ in range(min(3, limit)):
        # Without its innermost brackets, of which most texts have the most, it is one level less deep.
        text, limit = text.replace(b"\x01\xff", b""), limit - 1
    return max(accumulate(memoryview(text).cast("b")), default=0) > limit


def _is_strict(value: Any, max_depth: int) -> bool:
    """Whether numbers and nesting are right; text shows when it is encoded."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > max_depth:
            return False
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                continue
            if kind is dict:
                below += item.values()
            elif kind is list or kind is tuple:
                below += item
            elif kind is int:
                if not -MAX_INTEGER <= item <= MAX_INTEGER:
                    return False
            elif item is not None and kind is not bool:
                return False
        level = below
    return True


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _find_mistake(value: Any, max_depth: int) -> tuple[str, tuple[str | int, ...]]:
    """The first mistake level by level, and the way to it. Slow: only for what `_is_strict` refused."""
    level: list[tuple[_Way, Any]] = [(None, value)]
    for _ in range(max_depth):
        if not level:
            return "not a JSON value", ()
        below: list[tuple[_Way, Any]] = []
        for way, item in level:
            if isinstance(item, Mapping):
                for key, inner in item.items():
                    if not isinstance(key, str) or not _is_text(key):
                        return "a key that is not text", _steps(way)
                    below.append(((way, key), inner))
            elif isinstance(item, list | tuple):
                below.extend(((way, index), inner) for index, inner in enumerate(item))
            elif problem := _mistake_of(item):
                return problem, _steps(way)
        level = below
    return f"nested deeper than {max_depth} levels", _steps(level[0][0])[:3] if level else ()


_Way = tuple[Any, str | int] | None
"""The way to a value: that to what it is in, and its place there; shared by all that is in the same."""


def _steps(way: _Way) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    while way is not None:
        way, step = way
        steps.append(step)
    return tuple(reversed(steps))


def _mistake_of(item: Any) -> str | None:
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, str):
        return None if _is_text(item) else "not text: it contains a lone surrogate"
    if isinstance(item, int):
        return None if -MAX_INTEGER <= item <= MAX_INTEGER else "an integer beyond ±(2^53-1)"
    if isinstance(item, float):
        return "a number that is not an integer"
    return "not a JSON value"


def _printable(place: str) -> str:
    """A place that can be put into an answer whatever keys lead to it."""
    return (place if len(place) <= 200 else place[:200] + "…").encode("utf-8", "replace").decode("utf-8")


def _has_float(value: Any) -> bool:
    level = [value]
    while level:
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                below += item.values()
            elif kind is list or kind is tuple:
                below += item
            elif kind is float:
                return True
        level = below
    return False


def _encode_with_floats(value: Any) -> bytes:
    try:
        return canonicaljson.encode_canonical_json(value)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except TypeError as error:
        raise ValueError(str(error)) from None
