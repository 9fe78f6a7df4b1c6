"""An event that a room works on, from when it is read until it is received or put down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from federation.inbound.types import Staged
from federation.ports import Checked, Dropped
from homeserver.events.event import Event
from homeserver.graph.rooms.room import Room
from homeserver.matrix.ids import EventId, ServerName

FIRST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 1_800.0
"""Seconds between attempts, doubled each time."""


@dataclass(slots=True)
class Held:
    """An event in memory."""

    event_id: EventId
    origin: ServerName
    rows: list[Staged] = field(default_factory=list)
    """Where it is staged: several servers may have sent it. None: it was fetched to fill a gap."""
    event: Event | None = None
    """None until it is checked."""

    @property
    def checked(self) -> Event:
        """The event, of one that is checked."""
        assert self.event is not None
        return self.event


def references(held: Held) -> tuple[EventId, ...]:
    """What an event refers to."""
    return (*held.checked.prev_event_ids, *held.checked.auth_event_ids)


def objection(held: Held, result: Checked | Dropped, room: Room) -> str | None:
    """Why an event is not taken; None: it has passed steps 1 to 3."""
    if not isinstance(result, Checked):
        return result.reason[:200]
    if result.event.room_id != room.name.room_id or result.event.event_id != held.event_id:
        return "another room or event"
    return None


def pause_after(attempts: int) -> float:
    """Seconds until the next attempt after so many."""
    return min(FIRST_PAUSE * 2.0 ** (attempts - 1), LONGEST_PAUSE)
