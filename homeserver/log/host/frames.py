"""What the processes of a host say to each other: msgpack behind its length, over a Unix socket that only they may open."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from homeserver.log.entries import Position

PROTOCOL: Final = 1
"""Raise it when a frame, or what a sink packs, means something else: then processes of two versions do not talk."""
MAX_FRAME: Final = 64 * 1024 * 1024
"""Bytes. Larger than any batch: entries are bounded where they come in."""
_LENGTH: Final = struct.Struct("!I")


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """First, from both sides. The leader says how far it is: it tells everything after that."""

    protocol: int
    database: str
    """Its identifier, so that nobody hands appends to a process that serves another one."""
    process: bytes = b""
    """What the origins of a follower's appends begin with: 8 bytes."""
    position: Position = 0


class Hand(msgspec.Struct, array_like=True, tag="hand"):
    """An append to be written."""

    origin: bytes
    """Of all appends of all processes this one: 16 bytes."""
    txn: tuple[int, str, str, str] | None
    entries: list[tuple[str, bytes]]
    """Kind, and what its sink packed."""
    may_follow: bool
    """See `Append`."""


class Refused(msgspec.Struct, array_like=True, tag="refused"):
    """An append that was not written: because of a `conflict`, because it was `done` before, because its own process has to
    write it (`here`); or of which nobody can tell, because the database is away (`lost`).
    """

    origin: bytes
    why: Literal["conflict", "done", "here", "lost"]
    position: Position = 0
    """Where it was `done` before."""


class News(msgspec.Struct, array_like=True, tag="news"):
    """Entries that are committed, one position after the other."""

    first: Position
    items: list[tuple[str, bytes | None, bytes]]
    """Kind; what its sink packed (nothing: an entry of whoever is told, as it was; None: to be read from the database);
    whose entry it is: `Append.origin` and two bytes for its place in the append, or nothing."""


class Jump(msgspec.Struct, array_like=True, tag="jump"):
    """The leader has missed entries, up to there: they are to be read from the database."""

    position: Position


Frame = Hello | Hand | Refused | News | Jump

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Frame).decode


class BrokenFrame(Exception):
    """What came is no frame."""


def to_bytes(frame: Frame) -> bytes:
    """As it is sent."""
    body = _encode(frame)
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Takes bytes as they come, and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole by now. Raises `BrokenFrame`."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._buffer, start)
                if length > MAX_FRAME:
                    raise BrokenFrame("too long")
                end = start + _LENGTH.size + length
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[start + _LENGTH.size : end])
                start = end
                try:
                    frame = _decode(body)
                except msgspec.MsgspecError as error:
                    raise BrokenFrame(str(error)) from error
                yield frame
        finally:
            del self._buffer[:start]
