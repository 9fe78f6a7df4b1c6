"""What current state became where branches of a room met, without an event of its own in the timeline.

spec: server-server-api/#soft-failure (such events are told in the `state` of a sync), op:sync (SYNC-07)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from homeserver.events.event import StateKey
from homeserver.graph.entry import StateChange
from homeserver.graph.interning import Interning
from homeserver.log.entries import Position
from homeserver.storage.database import Database
from homeserver.sync.log_slice import LogSlice
from homeserver.sync.selection import store
from homeserver.sync.selection.classify import Classified
from homeserver.sync.types import SyncRequest


class ResolutionChange(NamedTuple):
    """From `position` on, this is at the key, whatever the event at the position says of it."""

    position: Position
    key: StateKey
    event_nid: int
    """0: nothing."""


ResolutionChanges = Mapping[int, Sequence[ResolutionChange]]
"""room_nid -> in the order of the log. Rooms without any are absent."""


class ResolutionChangeReader:
    """Reads what resolution changed in rooms between two positions. Keeps nothing in memory."""

    def __init__(self, db: Database, interning: Interning) -> None:
        self._db = db
        self._interning = interning

    async def of(self, request: SyncRequest, kinds: Classified) -> ResolutionChanges:
        """Those of rooms the client knows, in (since, upto]. From memory, or with one query."""
        if request.since is None:
            return {}
        if request.recent is not None:
            return _from_memory(request.recent, kinds)
        known = {*(kinds.joined - kinds.new), *kinds.left}
        async with self._db.read() as tx:
            rows = await store.find_resets(tx, list(known), request.since, request.upto)
        keys = await self._interning.keys({key for _, _, key, _ in rows})
        found: dict[int, list[ResolutionChange]] = {}
        for room, position, key, nid in rows:
            found.setdefault(room, []).append(ResolutionChange(position, keys[key], nid))
        return found


def _from_memory(log_slice: LogSlice, kinds: Classified) -> ResolutionChanges:
    found: dict[int, list[ResolutionChange]] = {}
    for position, entry in log_slice.moving:
        changes = entry.by_resolution
        if entry.superseded is not None:
            changes.append(entry.superseded)
        room = entry.persisted.room_nid
        if changes and room not in kinds.new and (room in kinds.joined or room in kinds.left):
            found.setdefault(room, []).extend(_reset(position, each) for each in changes)
    return found


def _reset(position: Position, change: StateChange) -> ResolutionChange:
    return ResolutionChange(position, change.key, change.ref.nid if change.ref is not None else 0)
