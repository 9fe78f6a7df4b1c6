"""What rooms at work stand on, and what all of them in a process share: places and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from federation.inbound.awaited import Awaited
from federation.inbound.below import History
from federation.inbound.known import Here
from federation.inbound.missing import Gaps
from federation.ports import EventChecker
from homeserver.events.event import Event
from homeserver.graph.persisted_event import PersistedEvent
from homeserver.graph.rooms.cache import Rooms
from homeserver.graph.rooms.room import Room
from homeserver.log.entries import Alongside
from homeserver.matrix.ids import EventId, ServerName
from homeserver.storage.database import Database


class ManyReceiver(Protocol):
    """Steps 4 to 6 for several events of a room at once. Fulfilled by `homeserver.graph.write.receive.Receiver`."""

    async def receive_many(
        self,
        room_nid: int,
        events: Sequence[Event],
        *,
        states: Mapping[EventId, Collection[EventId]] = ...,
        alongside: Alongside | None = None,
    ) -> list[PersistedEvent]: ...


class Countersigner(Protocol):
    """Gets what a room's policy server has to say of events. Fulfilled by `federation.inbound.policy_server`."""

    async def complete(self, room: Room, events: Sequence[Event]) -> list[Event]:
        """The events, with the policy server's signatures as far as they are to be had."""
        ...


class Parts(NamedTuple):
    """What rooms at work stand on; one for all of a process."""

    db: Database
    rooms: Rooms
    here: Here
    checker: EventChecker
    gaps: Gaps
    history: History
    receiver: ManyReceiver
    policy: Countersigner
    owner: str
    server_name: ServerName
    turns: asyncio.Semaphore
    """Rooms that read and write the database at once; nothing remote is awaited within."""
    filling: Filling
    awaited: Awaited
    memory: HeldBytes


class HeldBytes:
    """How much of what is staged a process has in memory; beyond the limit a room gets one event at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    @property
    def left(self) -> int:
        """Bytes that one more reading may take."""
        return max(self._limit - self.used, 0)


class Filling:
    """How many rooms have a gap being filled, by origin and in all. Owned by the service."""

    def __init__(self, each: int, most: int) -> None:
        self._each = each
        self._most = most
        self._under_way: dict[ServerName, int] = {}

    def begin(self, origin: ServerName) -> bool:
        """False: as many as may be are under way."""
        mine = self._under_way.get(origin, 0)
        if mine >= self._each or sum(self._under_way.values()) >= self._most:
            return False
        self._under_way[origin] = mine + 1
        return True

    def end(self, origin: ServerName) -> None:
        """One is done."""
        self._under_way[origin] -= 1
        if not self._under_way[origin]:
            del self._under_way[origin]
