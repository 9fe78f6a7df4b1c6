"""What one connection has been told, as of one answer; and the token that says so. Values that never change.

A token is a position and the name of a state. While a connection is told of the same rooms in the same way, the state stays
the same and only the position moves: what is told then is written nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from homeserver.log.entries import Position
from homeserver.matrix.errors import MatrixError
from homeserver.sync.sliding.required_state import Filtered, RequiredState, shared

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


_Set = tuple[list[tuple[str, str]], list[str], list[str], bool, bool]


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """A state in the database. What older processes do not know stands at the end, and only where it is needed."""

    wanted: list[_Set]
    """Sets of state."""
    rooms: list[tuple[int, int, int, int, bool]]
    """Number, position, limit, index in `wanted`, whether it is a conversation with one person."""
    extensions: dict[str, list[int] | None]
    filtered: dict[int, list[tuple[_Set, _Set]]] = {}
    """Index in `wanted` -> what is wanted beside it: what is included, and what of it is excluded."""


_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(state: State) -> bytes:
    """For the database."""
    numbers: dict[RequiredState, int] = {}
    rooms = [
        (nid, sent.upto, sent.limit, numbers.setdefault(sent.required, len(numbers)), sent.direct)
        for nid, sent in state.rooms.items()
    ]
    extensions = {name: None if nids is None else list(nids) for name, nids in state.extensions.items()}
    filtered = {
        number: [(_stored(each.included), _stored(each.excluded)) for each in required.filtered]
        for required, number in numbers.items()
        if required.filtered
    }
    parts = (list(map(_stored, numbers)), rooms, extensions)
    return msgspec.msgpack.encode((*parts, filtered) if filtered else parts)


def decode(data: bytes, written_ms: int) -> State:
    """What `encode` made. Raises `ValueError` for anything else."""
    stored = _decoder.decode(data)
    known = [_set(each) for each in stored.wanted]
    for number, pairs in stored.filtered.items():
        filtered = frozenset(Filtered(_set(included), _set(excluded)) for included, excluded in pairs)
        known[number] = shared(known[number]._replace(filtered=filtered))
    return State(
        {nid: Sent(upto, limit, known[number], direct) for nid, upto, limit, number, direct in stored.rooms},
        {name: None if nids is None else frozenset(nids) for name, nids in stored.extensions.items()},
        written_ms,
    )


def _stored(wanted: RequiredState) -> _Set:
    exact, types, keys = list(wanted.exact), list(wanted.types), list(wanted.keys)
    return (exact, types, keys, wanted.everything, wanted.lazy)


def _set(stored: _Set) -> RequiredState:
    exact, types, keys, everything, lazy = stored
    return shared(
        RequiredState(frozenset(exact), frozenset(types), frozenset(keys), everything=everything, lazy=lazy)
    )
