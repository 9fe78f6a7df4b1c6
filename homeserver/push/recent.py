"""Projection: the newest events by room, for as long as the tail has them: what moves tallies on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from homeserver.graph.entry import EventEntry, RedactedEntry
from homeserver.log.entries import Entry, Position, Written
from homeserver.log.tail import Tail

MAX_EVENTS = 20_000
MAX_ROOMS = 200_000
"""Of which it is known what is gone."""


class RecentEvents:
    """A projection: the newest events by room, for as long as the tail has them."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._rooms: dict[int, deque[Written[EventEntry]]] = {}
        self._order: deque[tuple[Position, int]] = deque()
        self._gone: dict[int, Position] = {}
        """room_nid -> its newest event that is no longer here."""
        self._all_gone: Position = 0
        """The same for rooms of which nothing is known."""
        self.resets = 0
        """How often entries were missed, or events redacted by no redaction: what was known before says nothing any more."""

    def newest(self, room_nid: int) -> Position:
        """The room's newest event, here or gone; 0 if there was none since the process began."""
        events = self._rooms.get(room_nid)
        return events[-1].position if events else self._gone.get(room_nid, self._all_gone)

    def after(self, room_nid: int, position: Position) -> list[Written[EventEntry]] | None:
        """The room's events after a position, in order; None if they are not all here."""
        if position < self._gone.get(room_nid, self._all_gone):
            return None
        found: list[Written[EventEntry]] = []
        for written in reversed(self._rooms.get(room_nid, ())):
            if written.position <= position:
                break
            found.append(written)
        found.reverse()
        return found

    def handlers(self) -> dict[type[Entry], Callable[[Position, Any], None]]:
        return {EventEntry: self._add, RedactedEntry: self._redacted}

    def reset(self) -> None:
        self.resets += 1
        self._rooms.clear()
        self._order.clear()

    def _redacted(self, _: Position, entry: RedactedEntry) -> None:
        del entry  # who counts just now may have counted what is redacted
        self.resets += 1

    def _add(self, position: Position, entry: EventEntry) -> None:
        room_nid = entry.persisted.room_nid
        self._rooms.setdefault(room_nid, deque()).append(Written(position, entry))
        self._order.append((position, room_nid))
        while len(self._order) > MAX_EVENTS or self._order[0][0] <= self._tail.floor < position:
            self._drop()

    def _drop(self) -> None:
        position, room_nid = self._order.popleft()
        if len(self._gone) >= MAX_ROOMS:
            self._gone.clear()
            self._all_gone = position
        self._gone[room_nid] = position
        events = self._rooms[room_nid]
        events.popleft()
        if not events:
            del self._rooms[room_nid]
