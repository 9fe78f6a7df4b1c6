"""What a slice of the log does to the order of rooms, and to which rooms a list has: the same for all who ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from homeserver.graph.entry import FOLLOWS, EventEntry
from homeserver.sync.log_slice import LogSlice


class Activity(NamedTuple):
    """Of one slice."""

    moving: frozenset[int]
    """Rooms whose current state is touched, or that were taken from another server."""
    active: Sequence[int]
    """Rooms with events that are shown, where one came last first."""


def activity(recent: LogSlice) -> Activity:
    """Worked out by the first who asks."""
    found: Activity | None = recent.shared.get(Activity)
    if found is None:
        entries = [entry for _, entry in recent.of(EventEntry)]
        moving = frozenset(
            entry.persisted.room_nid
            for entry in entries
            if entry.changes or entry.superseded is not None or entry.place != FOLLOWS
        )
        newest = (entry.persisted.room_nid for entry in reversed(entries) if not entry.persisted.hidden)
        found = recent.shared[Activity] = Activity(moving, list(dict.fromkeys(newest)))
    return found
