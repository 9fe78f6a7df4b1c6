"""A state made by resolution, as it is written."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

THIS_EVENT = 2**62
"""Stands for an event that has no number yet, in states that contain it."""


@dataclass(frozen=True, slots=True)
class NewState:
    """A state made by resolution: what differs from `parent`."""

    nid: int
    parent: int
    height: int
    keys: Mapping[int, int]
    """key_nid -> event_nid, 0: not set, OWN: the event that is being written."""
    content: bytes | None = None
    """Names what is set in it, so that it is found again; None if it contains OWN."""
    known: bool = False
    """It is there already, and need not be written; it must be held, though, until something refers to it."""


def content_of(state: Mapping[int, int]) -> bytes | None:
    """The same 16 bytes for the same state, whatever it was made from; None if it contains OWN."""
    if THIS_EVENT in state.values():
        return None
    numbers = array("q", (number for pair in sorted(state.items()) for number in pair))
    return blake2b(numbers.tobytes(), digest_size=16).digest()
