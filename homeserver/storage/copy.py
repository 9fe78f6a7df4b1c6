"""Rows in PostgreSQL's binary COPY format.

Source: PostgreSQL documentation, "COPY", section "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

from homeserver.storage.encoding import BINARY, encoder_of

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + b"\0\0\0\0" + b"\0\0\0\0"
_END: Final = b"\xff\xff"
_COUNT = struct.Struct("!h").pack
_LENGTH = struct.Struct("!i").pack
_NULL = _LENGTH(-1)
_CHUNK = 64 << 10

_TYPES: Final = {
    "bool": 16, "bytea": 17, "int8": 20, "bigint": 20, "int2": 21, "smallint": 21, "int4": 23, "int": 23, "text": 25,
    "json": 114, "float8": 701, "jsonb": 3802,
    "bool[]": 1000, "bytea[]": 1001, "int8[]": 1016, "bigint[]": 1016, "int2[]": 1005, "int4[]": 1007, "int[]": 1007,
    "text[]": 1009,
}  # fmt: skip


def encode_rows(types: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[bytes]:
    """The rows as chunks of about 64 KiB.

    Raises:
        TypeError: a type is not known here, or a row has another number of columns.
    """
    encoders = []
    for name in types:
        encode, form = encoder_of(_TYPES.get(name, 0))
        if form != BINARY:
            raise TypeError(f"COPY does not know the type {name!r}")
        encoders.append(encode)
    count = _COUNT(len(encoders))
    chunks: list[bytes] = []
    parts, size = [_SIGNATURE], 0
    for row in rows:
        if len(row) != len(encoders):
            raise TypeError(f"COPY wants rows of {len(encoders)} columns, got {len(row)}")
        parts.append(count)
        for encode, value in zip(encoders, row, strict=True):
            if value is None:
                parts.append(_NULL)
            else:
                item = encode(value)
                parts += (_LENGTH(len(item)), item)
                size += len(item)
        if size > _CHUNK:
            chunks.append(b"".join(parts))
            parts, size = [], 0
    parts.append(_END)
    chunks.append(b"".join(parts))
    return chunks
