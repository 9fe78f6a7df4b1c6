"""A state made by resolution, as it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OWN = 2**62
"""Stands for an event that has no number yet, in states that contain it."""


@dataclass(frozen=True, slots=True)
class NewState:
    """A state made by resolution: what differs from `parent`."""

    nid: int
    parent: int
    height: int
    keys: Mapping[int, int]
    """key_nid -> event_nid, 0: not set, OWN: the event that is being written."""
