"""The newest events by room."""

from types import SimpleNamespace
from typing import Any

import pytest

from homeserver.graph.entry import EventEntry
from homeserver.push import recent
from homeserver.push.recent import RecentEvents


class Log:
    """A tail that holds the last `kept` positions."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.position = 0

    @property
    def floor(self) -> int:
        return max(0, self.position - self.kept)


def filled(kept: int, rooms: list[int]) -> RecentEvents:
    log: Any = Log(kept)
    events = RecentEvents(log)
    add = events.handlers()[EventEntry]
    for position, room in enumerate(rooms, start=1):
        log.position = position
        add(position, SimpleNamespace(persisted=SimpleNamespace(room_nid=room)))
    return events


def positions(events: RecentEvents, room: int, after: int) -> list[int] | None:
    found = events.after(room, after)
    return None if found is None else [written.position for written in found]


def test_events_of_a_room_come_in_order() -> None:
    events = filled(100, [1, 2, 1, 2, 2])
    assert positions(events, 2, 0) == [2, 4, 5]
    assert positions(events, 2, 2) == [4, 5]
    assert positions(events, 1, 3) == []
    assert positions(events, 3, 0) == []


def test_what_the_tail_has_forgotten_is_known_to_be_missing() -> None:
    """A quiet room loses nothing by what happens elsewhere."""
    events = filled(3, [1, 1, 2, 2, 2, 2, 2])
    assert positions(events, 1, 1) is None
    assert positions(events, 1, 2) == [], "nothing has happened since"
    assert positions(events, 2, 3) is None
    assert positions(events, 2, 5) == [6, 7]


def test_rooms_of_which_nothing_is_known_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "MAX_ROOMS", 2)
    events = filled(1, [1, 2, 3, 4, 5])
    assert positions(events, 1, 1) is None
    assert positions(events, 5, 4) == [5]


def test_a_reset_forgets_everything() -> None:
    events = filled(100, [1, 1])
    events.reset()
    assert (events.resets, positions(events, 1, 0)) == (1, [])
