"""Which rooms are looked at together: how long a turn of the event loop takes depends on their events, not on their number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from homeserver.graph.rooms.room import Room
from homeserver.sync.selection.classify import Classified, is_whole
from homeserver.sync.selection.timeline import Timeline
from homeserver.sync.types import SyncRequest

ROOMS_AT_ONCE: Final = 50
"""Whose news are selected together: some milliseconds of work, then others have a turn."""
EVENTS_AT_ONCE: Final = 2_000
"""The same in events of their timelines and states; a room that has more is looked at alone."""


def groups(
    request: SyncRequest, kinds: Classified, timelines: Mapping[int, Timeline], among: Mapping[int, Room]
) -> Iterator[dict[int, Room]]:
    """Rooms in groups, in their order; none is empty."""
    group: dict[int, Room] = {}
    events = 0
    for nid, room in among.items():
        timeline = timelines.get(nid)
        more = len(timeline.raw) if timeline is not None else 0
        if is_whole(request, kinds, nid):
            more += len(room.state)
        if group and (len(group) == ROOMS_AT_ONCE or events + more > EVENTS_AT_ONCE):
            yield group
            group, events = {}, 0
        group[nid] = room
        events += more
    if group:
        yield group
