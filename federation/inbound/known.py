"""What of the event graph is here, as far as events that come need it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from homeserver.graph.event_cache import EventCache
from homeserver.graph.refs import OUTLIER
from homeserver.matrix.ids import EventId


class Known(NamedTuple):
    """Of some events those that are here."""

    whole: frozenset[EventId]
    """Their place in the graph is known: they may be previous events."""
    outliers: frozenset[EventId]
    """They may be auth events, and part of a state."""
    elsewhere: frozenset[EventId]
    """They belong to another room: whatever refers to them from this one is no event of it."""


NOTHING: Final = Known(frozenset(), frozenset(), frozenset())


class Here:
    """Looks up what is here. Keeps nothing in memory."""

    def __init__(self, events: EventCache) -> None:
        self._events = events

    def from_memory(self, room_nid: int, event_ids: Collection[EventId]) -> Known | None:
        """The same, if all of these are whole events in memory."""
        found = [there.room_nid for each in event_ids if (there := self._events.whole(each)) is not None]
        if len(found) < len(event_ids) or any(each != room_nid for each in found):
            return None
        return Known(frozenset(event_ids), frozenset(), frozenset())

    async def find(self, room_nid: int, event_ids: Collection[EventId]) -> Known:
        """Which of these are here, and as what. One query."""
        places = await self._events.places(event_ids)
        own = {event_id: place for event_id, place in places.items() if place.room_nid == room_nid}
        outliers = frozenset(event_id for event_id, place in own.items() if place.flags & OUTLIER)
        return Known(frozenset(own.keys() - outliers), outliers, frozenset(places.keys() - own.keys()))
