"""A slice of the recent log, sorted by kind, and what all who ask for it have to know of it.

Whatever does not depend on who asks is worked out once, here, however many long polls wake for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from homeserver.graph.entry import EventEntry
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.log.entries import Entry, Position, Written

E = TypeVar("E", bound=Entry)


class LogSlice:
    """Entries in (since, upto], in order."""

    def __init__(self, by_type: Mapping[type[Entry], Sequence[Written[Any]]]) -> None:
        self._by_type = by_type
        self.kinds = frozenset(by_type)
        """Types of which there are entries."""
        self.shared: dict[Any, Any] = {}
        """What others have worked out of the slice, under keys of their own."""

    def of(self, kind: type[E]) -> Sequence[Written[E]]:
        """All entries of a type."""
        return self._by_type.get(kind, ())

    def items(self) -> Iterable[tuple[type[Entry], Sequence[Written[Any]]]]:
        """Types with their entries."""
        return self._by_type.items()

    @cached_property
    def by_room(self) -> Mapping[int, list[PersistedEvent]]:
        """room_nid -> its events, without those that are shown to nobody."""
        found: dict[int, list[PersistedEvent]] = {}
        for _, entry in self.of(EventEntry):
            if not entry.persisted.flags:
                found.setdefault(entry.persisted.room_nid, []).append(entry.persisted)
        return found

    @cached_property
    def gaps(self) -> Mapping[int, Position]:
        """room_nid -> its newest event before which history is missing (`graph.gaps`)."""
        return {
            entry.persisted.room_nid: position for position, entry in self.of(EventEntry) if entry.opens_gap
        }

    @cached_property
    def moving(self) -> Sequence[Written[EventEntry]]:
        """Events that change the current state of their room, or would have."""
        return [w for w in self.of(EventEntry) if w.entry.changes or w.entry.superseded is not None]

    @cached_property
    def moved(self) -> frozenset[int]:
        """user_nids of those whose membership somewhere is touched."""
        changes = (change for _, entry in self.moving for change in entry.changes)
        return frozenset(change.user_nid for change in changes if change.user_nid is not None)
