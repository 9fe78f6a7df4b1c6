"""Which thread an event is in.

spec: client-server-api/#threaded-read-receipts (EPH-05)
"""

from __future__ import annotations

from homeserver.events.event import Event
from homeserver.graph.event_cache import EventCache
from homeserver.matrix.ids import EventId

MAIN = "main"
MAX_HOPS = 3


async def thread_of(event: Event, events: EventCache) -> str:
    """The root's event id, or MAIN: by the event's own relation, or that of what it relates to, three hops far."""
    current = event
    for _ in range(MAX_HOPS + 1):
        relation = current.content.get("m.relates_to")
        if not isinstance(relation, dict) or not isinstance(relation.get("event_id"), str):
            return MAIN
        if relation.get("rel_type") == "m.thread":
            return str(relation["event_id"])
        parent = await events.by_id(EventId(relation["event_id"]))
        if parent is None or parent.event.room_id != event.room_id:
            return MAIN
        current = parent.event
    return MAIN
