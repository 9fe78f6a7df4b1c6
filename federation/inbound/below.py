"""What lies before a join of ours: history, which is written as such and told to nobody as new.

spec: server-server-api/#backfilling-and-retrieving-missing-events (FED-14, FED-16)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import structlog

from homeserver.events.event import Event
from homeserver.graph.interning import RoomIdentity
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.write.backfill import Bottom
from homeserver.graph.write.receive import EventIdTaken, MissingEvents
from homeserver.matrix.errors import MatrixError
from homeserver.matrix.ids import EventId

_log = structlog.get_logger("atrium.federation.history")

MAX_EVENTS: Final = 500
"""Written at once: as many as `History.add` takes."""


class History(Protocol):
    """Where older events are written; `homeserver.graph.write.backfill`."""

    async def add(
        self, room_nid: int, events: Sequence[Event], state_before_oldest: Collection[EventId] | None
    ) -> list[PersistedEvent]:
        """Those that lead to what is here; the new ones are returned. Raises `MissingEvents`, `EventIdTaken`, `MatrixError`,
        `ValueError`.
        """
        ...


class Histories(History, Protocol):
    """And where a room begins for this server."""

    async def bottom(self, room_nid: int) -> Bottom | None:
        """None: all that comes before our joins is here."""
        ...


class Past:
    """What a join of ours stands on and is not here, as far as it is told. Grows with what is told, whose number is bounded."""

    def __init__(self, bottom: Bottom) -> None:
        self._bottom = bottom
        self.events: dict[EventId, Event] = {}
        """Of what was told: what the join stands on."""
        self.open: list[EventId] = [*bottom.missing]
        """What that names and was not told, the newest first."""
        self._reach = bottom.depth

    def learn(self, told: Mapping[EventId, Event], here: Collection[EventId]) -> None:
        """`told`: events, of any kind, whose signatures are checked; `here`: what need not be told."""
        self.events = {event.event_id: event for event in leading_to(self._bottom.missing, told)}
        depths = {each: self._bottom.depth for each in self._bottom.missing if each not in self.events}
        for event in self.events.values():
            for each in event.prev_event_ids:
                if each not in self.events and each not in here:
                    depths[each] = max(event.depth, depths.get(each, 0))
        self.open = sorted(depths, key=lambda each: -depths[each])
        self._reach = max(depths.values(), default=0)

    def may_hold(self, event: Event) -> bool:
        """Whether an event that is not among `events` may lie below the join: it says that it is older, and not all that is as deep
        as it says is known. (What lies below something is less deep: server-server-api/#pdus.)
        """
        return event.depth < self._reach and self._bottom.seems_below(event)

    def steps_to(self, events: Collection[Event]) -> int:
        """How much deeper has to be looked until it is clear of one of these whether it lies below the join."""
        return self._reach - max(event.depth for event in events)

    def named_by(self, event: Event) -> bool:
        """Whether an event stands on what the join names, and is not here."""
        return not set(self._bottom.missing).isdisjoint(event.prev_event_ids)

    def bounds(self, event: Event, known: Collection[EventId]) -> bool:
        """Whether there is nothing before an event but what is known, or the join names."""
        return {*known, *self._bottom.missing}.issuperset(event.prev_event_ids)


async def add_history(
    history: History, room: RoomIdentity, events: Sequence[Event], states: Mapping[EventId, Sequence[EventId]]
) -> bool:
    """Write older events. `states`: those before events whose previous events are not here. Whether anything new was written."""
    newest = sorted(events, key=lambda each: -each.depth)[:MAX_EVENTS]
    oldest = next((each for each in reversed(newest) if each.event_id in states), None)
    state = states[oldest.event_id] if oldest is not None else None
    try:
        return bool(await history.add(room.nid, newest, state))
    except (MissingEvents, EventIdTaken, MatrixError, ValueError) as error:
        _log.info("history_not_added", room=room.room_id, problem=str(error)[:200])
        return False


def leading_to(missing: Collection[EventId], told: Mapping[EventId, Event]) -> list[Event]:
    """Those of some events that are asked for, or that these follow: whatever else came is nobody's past."""
    found: dict[EventId, Event] = {}
    waiting = [event_id for event_id in missing if event_id in told]
    while waiting:
        event = told[waiting.pop()]
        if event.event_id not in found:
            found[event.event_id] = event
            waiting += [each for each in event.prev_event_ids if each in told]
    return list(found.values())
