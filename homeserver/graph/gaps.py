"""Gaps in a room's history: where they lie, and which numbers the events have that are found in them later.

A gap lies right before a live event whose previous events are not here. What is found in it has numbers of its own, lower the
older: they tell the gap. So the history of a room is a row of segments, in each of which numbers tell the order.
See docs/decisions/0021-order-of-history.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.log.entries import Position

NUMBERS = 2**32
"""Of events in one gap."""
NEWEST: Position = 2**62
OLDEST: Position = -(2**62)


class Gap(NamedTuple):
    """A gap of a room."""

    number: int
    position: Position
    """The event behind it."""
    found: int = 0
    """How many numbers of it are given out."""


class Segment(NamedTuple):
    """Events of a room with numbers in (low, high]: in the order of their numbers."""

    low: Position
    high: Position
    live: bool


def first_number(gap: int) -> int:
    """The number of the newest event in a gap; older ones have lower ones."""
    return -gap * NUMBERS - 1


def bottom_of(gap: int) -> int:
    """The place before all events of a gap."""
    return first_number(gap) - NUMBERS + 1


def gap_of(nid: Position) -> int:
    """The gap that a number lies in; 0: none."""
    return (-nid - 1) // NUMBERS if nid < 0 else 0


def segments(gaps: Sequence[Gap], after: Position, upto: Position) -> list[Segment]:
    """The history between two places, the oldest first. `gaps`: of the room, by position.

    A place is a number: of a live event, or of one in a gap; it stands right after that event. Where a gap begins right behind the
    position of a live event, both its ends have that place: it is told whole.
    """
    places = {gap.number: gap.position for gap in gaps}
    lower, upper = _place(places, after), _end(places, upto)
    found: list[Segment] = []
    low: Position = 0
    for gap in gaps:
        found.append(Segment(low, gap.position - 1, live=True))
        top = first_number(gap.number)
        found.append(Segment(top - NUMBERS, top, live=False))
        low = gap.position - 1
    found.append(Segment(low, NEWEST, live=True))
    clipped = [_clip(places, segment, lower, upper) for segment in found]
    return [segment for segment in clipped if segment.low < segment.high]


def is_between(gaps: Sequence[Gap], gap: Gap, after: Position, upto: Position) -> bool:
    """Whether the oldest end of a gap lies between two places."""
    places = {each.number: each.position for each in gaps}
    return _place(places, after) <= (gap.position - 1, 0) and (
        gap.position,
        bottom_of(gap.number),
    ) < _end(places, upto)


_Place = tuple[Position, int]
"""Of a live event: (its number, 0). Of one in a gap: (the number of the live event behind the gap, its own)."""


def _place(places: dict[int, Position], at: Position) -> _Place:
    if at >= 0:
        return at, 0
    behind = places.get(gap_of(at))
    return (OLDEST, 0) if behind is None else (behind, at)


def _end(places: dict[int, Position], at: Position) -> _Place:
    """As `_place`, with a gap that begins right behind it."""
    return (at + 1, -1) if at >= 0 else _place(places, at)


def _clip(places: dict[int, Position], segment: Segment, lower: _Place, upper: _Place) -> Segment:
    """What of a segment lies after one place and not after another."""
    low, high, live = segment
    if live:
        # A place in a gap is before the live event behind it.
        return Segment(max(low, lower[0] - (lower[1] < 0)), min(high, upper[0] - (upper[1] < 0)), live=True)
    behind = places[gap_of(high)]
    if (behind, low) < lower:
        low = lower[1] if lower[0] == behind and lower[1] < 0 else high
    if (behind, high) > upper:
        high = upper[1] if upper[0] == behind and upper[1] < 0 else low
    return Segment(low, high, live=False)
