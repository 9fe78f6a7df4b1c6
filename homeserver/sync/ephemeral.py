"""What is ephemeral in rooms, in one section: receipts and typing, each from its own feature.

spec: op:sync `ephemeral` (SYNC-17)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from homeserver.log.entries import Entry
from homeserver.matrix import json
from homeserver.runtime.turns import Steps, next_turn
from homeserver.sync.types import JoinedRooms, Part, Recipients, SyncRequest

ROOMS_AT_ONCE = 50
"""Whose events are written in one turn."""


class EphemeralSource(ABC):
    """One kind of ephemeral event; at most one of each per room."""

    @abstractmethod
    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        """As of a stream."""

    @abstractmethod
    async def events(self, request: SyncRequest, rooms: JoinedRooms) -> dict[int, dict[str, Any]]:
        """room_nid -> event; only rooms in `rooms.joined_nids` with news."""


class EphemeralStream:
    """The section `ephemeral` of joined rooms."""

    always_asked = False

    def __init__(self, sources: Sequence[EphemeralSource]) -> None:
        self._sources = sources

    def recipients(self) -> dict[type[Entry], Callable[[Any], Recipients]]:
        return {
            kind: recipients for source in self._sources for kind, recipients in source.recipients().items()
        }

    async def changes(self, request: SyncRequest, rooms: JoinedRooms) -> Part:
        # Clients that see a room for the first time look here without asking whether it is there.
        by_room: dict[int, list[bytes]] = (
            {room: [] for room in rooms.joined_nids} if request.since is None else {}
        )
        steps = Steps(ROOMS_AT_ONCE)
        for source in self._sources:
            for room, event in (await source.events(request, rooms)).items():
                if steps.full(1):
                    await next_turn()
                by_room.setdefault(room, []).append(json.dumps(event))
        return Part(
            rooms={
                room: {"ephemeral": b'{"events":[%b]}' % b",".join(events)}
                for room, events in by_room.items()
            }
        )
