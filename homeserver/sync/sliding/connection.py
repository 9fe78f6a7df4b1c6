"""What one connection has been told, as of one answer; and the token that says so. Values that never change.

A token is a position and the name of a state. While a connection is told of the same rooms in the same way, the state stays
the same and only the position moves: what is told then is written nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from homeserver.log.entries import Position
from homeserver.matrix.errors import MatrixError
from homeserver.sync.sliding.required_state import RequiredState, shared

_POS = re.compile(r"s([0-9]{1,18})~([0-9a-f]{1,16})", re.ASCII)


class UnknownPos(MatrixError):
    """The client begins a new connection. spec: MSC4186, "Connections"."""

    errcode = "M_UNKNOWN_POS"


class Sent(NamedTuple):
    """What a connection knows of a room."""

    upto: Position
    """Everything up to here; 0: up to the position of the token."""
    limit: int
    """Of how many of the newest events it has surely been told."""
    required: RequiredState
    """Of which state."""
    direct: bool
    """Whether it was told that this is a conversation with one person (`is_dm`)."""


class State(NamedTuple):
    """What a connection knows."""

    rooms: Mapping[int, Sent]
    extensions: Mapping[str, frozenset[int] | None]
    """Name of an extension -> the rooms it was about; None: all in `rooms`. Others were not enabled."""
    written_ms: int


EMPTY = State({}, {}, 0)


class Pos(NamedTuple):
    """A token."""

    position: Position
    version: int


def format_pos(pos: Pos) -> str:
    """As clients get it."""
    return f"s{pos.position}~{pos.version:x}"


def parse_pos(text: str) -> Pos:
    """Raises `UnknownPos`."""
    found = _POS.fullmatch(text)
    if found is None:
        raise UnknownPos("pos: not a position of this connection")
    return Pos(int(found[1]), int(found[2], 16))


def encode(state: State) -> bytes:
    """For the database."""
    numbers: dict[RequiredState, int] = {}
    rooms = [
        (nid, sent.upto, sent.limit, numbers.setdefault(sent.required, len(numbers)), sent.direct)
        for nid, sent in state.rooms.items()
    ]
    wanted = [(list(r.exact), list(r.types), list(r.keys), r.everything, r.lazy) for r in numbers]
    extensions = {name: None if nids is None else list(nids) for name, nids in state.extensions.items()}
    return msgspec.msgpack.encode((wanted, rooms, extensions))


def decode(data: bytes, written_ms: int) -> State:
    """What `encode` made. Raises `ValueError` for anything else."""
    wanted, rooms, extensions = _decoder.decode(data)
    known = [
        shared(
            RequiredState(frozenset(exact), frozenset(types), frozenset(keys), everything=every, lazy=lazy)
        )
        for exact, types, keys, every, lazy in wanted
    ]
    return State(
        {nid: Sent(upto, limit, known[number], direct) for nid, upto, limit, number, direct in rooms},
        {name: None if nids is None else frozenset(nids) for name, nids in extensions.items()},
        written_ms,
    )


_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(
    tuple[
        list[tuple[list[tuple[str, str]], list[str], list[str], bool, bool]],
        list[tuple[int, int, int, int, bool]],
        dict[str, list[int] | None],
    ]
)
