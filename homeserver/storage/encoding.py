"""How Python values travel to PostgreSQL: one encoder per PostgreSQL type, binary wherever that is shorter to make.

The type is PostgreSQL's own answer to "what is parameter 3 of this statement?", so a value is never guessed: an
`int` for a `text` parameter is an error here, with the name of the parameter, not a surprise there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

from homeserver.storage.errors import UnstorableText

Encoder = Callable[[Any], bytes]

TEXT, BINARY = 0, 1

_INT4 = struct.Struct("!i").pack
_ARRAY_HEADER = struct.Struct("!iiIii").pack
_EMPTY_ARRAY = struct.Struct("!iiI").pack
_NULL = _INT4(-1)


def _text(value: str) -> bytes:
    if "\0" in value:
        raise UnstorableText("U+0000")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise UnstorableText("half a surrogate pair") from None


def storable(text: str) -> str:
    """The text with U+FFFD for each character that no `text` column holds (U+0000, halves of surrogate pairs): for what is
    not worth a refusal, such as a header.
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _json(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _jsonb(value: str | bytes) -> bytes:
    return b"\x01" + _json(value)


def _bytea(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes are expected")
    return bytes(value)


def _uuid(value: Any) -> bytes:
    data: bytes = value if isinstance(value, bytes) else value.bytes
    if len(data) != 16:
        raise TypeError("a uuid has 16 bytes")
    return data


def _bool(value: object) -> bytes:
    return b"\x01" if value else b"\x00"


def _numbers(oid: int, size: int, code: str) -> Encoder:
    """Of items of a fixed size; without nulls, which are rare, each is one call."""
    pack, empty = struct.Struct(f"!i{code}").pack, _EMPTY_ARRAY(0, 0, oid)
    others = _array(oid, struct.Struct(f"!{code}").pack)

    def encode_array(values: Sequence[Any]) -> bytes:
        if isinstance(values, str | bytes) or None in values:
            return others(values)
        if not values:
            return empty
        return _ARRAY_HEADER(1, 0, oid, len(values), 1) + b"".join([pack(size, value) for value in values])

    return encode_array


def _array(oid: int, encode: Encoder) -> Encoder:
    empty = _EMPTY_ARRAY(0, 0, oid)

    def encode_array(values: Sequence[Any]) -> bytes:
        if isinstance(values, str | bytes):
            raise TypeError("a list is expected")
        if not values:
            return empty
        parts = [b""]
        nulls = 0
        for value in values:
            if value is None:
                nulls = 1
                parts.append(_NULL)
            else:
                item = encode(value)
                parts += (_INT4(len(item)), item)
        parts[0] = _ARRAY_HEADER(1, nulls, oid, len(values), 1)
        return b"".join(parts)

    return encode_array


# By type number, as in PostgreSQL's catalogue pg_type; these never change.
_SCALARS: Final[dict[int, Encoder]] = {
    16: _bool,
    17: _bytea,
    18: _text,
    19: _text,
    20: struct.Struct("!q").pack,
    21: struct.Struct("!h").pack,
    23: _INT4,
    25: _text,
    26: struct.Struct("!I").pack,
    114: _json,
    700: struct.Struct("!f").pack,
    701: struct.Struct("!d").pack,
    1042: _text,
    1043: _text,
    2950: _uuid,
    3802: _jsonb,
}
# array type -> element type
_ARRAYS: Final = {
    1000: 16, 1001: 17, 1016: 20, 1005: 21, 1007: 23, 1009: 25, 1015: 1043, 1022: 701, 2951: 2950, 3807: 3802,
}  # fmt: skip

_BINARY: dict[int, Encoder] = _SCALARS | {
    array: _array(element, _SCALARS[element]) for array, element in _ARRAYS.items()
}
_BINARY |= {1016: _numbers(20, 8, "q"), 1007: _numbers(23, 4, "i")}


def _as_text(value: object) -> bytes:
    return str(value).encode()


def encoder_of(oid: int) -> tuple[Encoder, int]:
    """The encoder for a PostgreSQL type, and whether it makes binary (1) or text (0)."""
    encode = _BINARY.get(oid)
    return (encode, BINARY) if encode is not None else (_as_text, TEXT)
