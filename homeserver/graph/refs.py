"""Events are numbered when they are written; until then others point at them through a reference."""

from __future__ import annotations

from typing_extensions import override

from homeserver.events.event import Event
from homeserver.matrix.ids import EventId

JOIN, INVITE, KNOCK, LEAVE, BAN = 1, 2, 3, 4, 5
MEMBERSHIPS = {"join": JOIN, "invite": INVITE, "knock": KNOCK, "leave": LEAVE, "ban": BAN}
MEMBERSHIP_NAMES = {number: name for name, number in MEMBERSHIPS.items()}

REJECTED, SOFT_FAILED, OUTLIER, INTERNAL = 1, 2, 4, 8
HIDDEN = REJECTED | SOFT_FAILED | OUTLIER | INTERNAL
"""Flags of events that are never shown to clients."""
STATELESS = REJECTED | OUTLIER
"""Flags of state events that are not in the state after them. spec: server-server-api/#soft-failure (FED-13)"""


MEMBER = "m.room.member"
DUMMY = "org.matrix.dummy_event"
"""Joins branches of a room and says nothing: servers send it to each other, and keep it from clients (INTERNAL)."""


def flags_of(event: Event) -> int:
    """What an event is marked with for what it is."""
    return INTERNAL if event.type == DUMMY and event.state_key is None else 0


class EventRef:
    """Points at an event. `nid` is 0 until the event is written, and again if writing it failed."""

    __slots__ = ("depth", "event", "event_id", "nid")

    def __init__(self, event_id: EventId, nid: int, depth: int, event: Event | None = None) -> None:
        self.event = event
        """Only in rooms of versions 1 and 2, and only if it was built here: later events name it with its hash."""
        self.event_id = event_id
        self.nid = nid
        self.depth = depth

    @override
    def __repr__(self) -> str:
        return f"<{self.event_id} #{self.nid}>"


class StateRef:
    """Points at a state: after the state event `event`, or a numbered one. `height` is the length of its delta chain."""

    __slots__ = ("_event", "_nid", "height")

    def __init__(self, height: int, *, nid: int = 0, event: EventRef | None = None) -> None:
        self.height = height
        self._nid = nid
        self._event = event

    @property
    def nid(self) -> int:
        return self._nid if self._event is None else self._event.nid

    @property
    def event(self) -> EventRef | None:
        """The state event it is after; None: it is told by its number."""
        return self._event


EMPTY_STATE = StateRef(0)
